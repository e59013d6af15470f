// node tensorboard_page.mjs PACKAGES CHROMIUM URL FILE: a picture of a page of TensorBoard, when its charts are drawn.
import {createRequire} from 'node:module';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [packages, executable, url, file] = process.argv.slice(2);
const require = createRequire(path.join(packages, 'package.json'));
const load = async name => (await import(pathToFileURL(require.resolve(name)))).default;
const puppeteer = await load('puppeteer-core');
const root = process.getuid?.() === 0 ? ['--no-sandbox'] : [];

async function launch() {
  if (executable) return puppeteer.launch({args: root, executablePath: executable, headless: true});
  const chromium = await load('@sparticuz/chromium');
  const args = chromium.args.filter(arg => !/single-process/.test(arg));
  return puppeteer.launch({args: [...args, ...root], executablePath: await chromium.executablePath(), headless: 'shell'});
}

const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const browser = await launch();
const page = await browser.newPage();
await page.setViewport({width: 1280, height: 1036, deviceScaleFactor: 1.5});
await page.goto(url, {waitUntil: 'networkidle2', timeout: 120000});
await wait(3000);
// The settings take a fourth of the page.
await page.evaluate(() => {
  const settings = [...document.querySelectorAll('button')].find(each => /^\s*(settings\S*\s*)?settings\s*$/i.test(each.textContent));
  settings?.click();
});
await wait(5000);
await page.screenshot({path: file});
await browser.close();
