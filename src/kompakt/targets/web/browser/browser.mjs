// Opens pages in a headless Chromium: one request a line on stdin, one answer a line on stdout, as JSON.
//
//   {"do": "open", "url", "width", "height", "scale", "dark"}  -> {"version"}
//   {"do": "result", "timeout"}                 -> {"result"}   what the page put into globalThis.kompakt
//   {"do": "screenshot", "file", "whole"}       -> {"bytes"}    of the whole page, or of what the window shows
//
// There is no network: what a page asks of the public copy of the npm registry comes from the packages that lie in the
// folders given as arguments, in the version that lies there; what it asks of its own server goes there; else nothing.
import fs from 'node:fs';
import path from 'node:path';
import {answerLines} from '../lines.mjs';
import {launch} from './launch.mjs';

const [executable, profile, ...folders] = process.argv.slice(2);
const NPM = 'https://cdn.jsdelivr.net/npm/';
const TYPES = {'.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm'};

let browser = null, page = null, said = [];

// The file of an installed package that `url` names, with its version.
function installed(url) {
  const match = /^((?:@[\w-]+\/)?[\w.-]+)@([\w.-]+)\/([\w./-]+)$/.exec(url.slice(NPM.length));
  if (!match || match[3].split('/').includes('..')) return null;
  for (const folder of folders) {
    const root = path.join(folder, 'node_modules', match[1]);
    if (!fs.existsSync(path.join(root, 'package.json'))) continue;
    const {version} = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
    const file = path.join(root, match[3]);
    if (version === match[2] && fs.existsSync(file)) return file;
  }
  return null;
}

function answer(request, origin) {
  const url = request.url();
  if (/^(data|blob):/.test(url) || url.startsWith(origin + '/')) return request.continue();
  const file = url.startsWith(NPM) ? installed(url) : null;
  if (file === null) {
    said.push(`asked for ${url}, which is not there without a network`);
    return request.abort();
  }
  return request.respond({
    body: fs.readFileSync(file),
    contentType: TYPES[path.extname(file)] ?? 'application/octet-stream',
    headers: {'access-control-allow-origin': '*'},
  });
}

async function open({url, width, height, scale, dark}) {
  browser ??= await launch(folders[0], executable, profile);
  await page?.close();
  said = [];
  page = await browser.newPage();
  await page.setViewport({width, height, deviceScaleFactor: scale});
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: dark ? 'dark' : 'light'}]);
  await page.setRequestInterception(true);
  page.on('request', request => answer(request, new URL(url).origin));
  page.on('pageerror', error => said.push(String(error.message)));
  page.on('console', message => message.type() === 'error' && said.push(message.text()));
  await page.goto(url, {waitUntil: 'load', timeout: 120000});
  return {version: await browser.version()};
}

async function result({timeout}) {
  try {
    await page.waitForFunction(() => globalThis.kompakt, {timeout: timeout * 1000});
  } catch (error) {
    throw new Error([...said.slice(0, 3), error.message].join('; '));
  }
  return {result: await page.evaluate(() => globalThis.kompakt), said};
}

async function screenshot({file, whole = true}) {
  const bytes = await page.screenshot({path: file, fullPage: whole});
  return {bytes: bytes.length};
}

await answerLines({open, result, screenshot});
await browser?.close();
