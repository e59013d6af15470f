// A headless Chromium through puppeteer: the one at `executable`, or the one of the packages where that is empty.
import {createRequire} from 'node:module';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const WEBGL = ['--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];

// What a package that lies in `folder` exports.
export async function load(folder, name) {
  const require = createRequire(path.join(folder, 'package.json'));
  return (await import(pathToFileURL(require.resolve(name)))).default;
}

export async function launch(folder, executable, profile) {
  const puppeteer = await load(folder, 'puppeteer-core');
  const root = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const common = {pipe: true, protocolTimeout: 900000, userDataDir: profile};
  if (executable) {
    return puppeteer.launch({...common, args: [...WEBGL, ...root], executablePath: executable, headless: true});
  }
  const chromium = await load(folder, '@sparticuz/chromium');
  chromium.setGraphicsMode = true;
  const args = [...chromium.args.filter(arg => !/use-gl|use-angle|swiftshader|single-process/.test(arg)), ...WEBGL];
  return puppeteer.launch({...common, args: [...args, ...root], executablePath: await chromium.executablePath(), headless: 'shell'});
}
