// A report in a headless Chromium: one request a line on stdin, one answer a line on stdout, as JSON.
//
//   node page.mjs LAUNCH.mjs EXECUTABLE PROFILE BROWSER_PACKAGES [AXE_PACKAGES]
//   {"do": "open", "url", "width", "height", "scale", "dark"} -> {}
//   {"do": "evaluate", "code"}  -> {"value"}     {"do": "press", "key"}, {"do": "click", "selector"} -> {}
//   {"do": "media", "type"}     -> {}               "print" or "screen"
//   {"do": "axe"}               -> {"violations", "undecided", "passes"}
//   {"do": "said"}              -> {"errors", "requests"}   since the page was opened
//   {"do": "screenshot", "file", "whole"}, {"do": "pdf", "file"} -> {}
//
// Every request that is not for a file or data is refused, and told by "said".
import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [launcher, executable, profile, packages, axePackages] = process.argv.slice(2);
const {launch} = await import(pathToFileURL(launcher));
const {answerLines} = await import(new URL('../lines.mjs', pathToFileURL(launcher)));
let browser = null, page = null, errors = [], requests = [];

function answer(request) {
  if (/^(file|data):/.test(request.url())) return request.continue();
  requests.push(request.url());
  return request.abort();
}

const DO = {
  async open({url, width, height, scale, dark}) {
    browser ??= await launch(packages, executable, profile);
    await page?.close();
    errors = [];
    requests = [];
    page = await browser.newPage();
    await page.setViewport({width, height, deviceScaleFactor: scale});
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: dark ? 'dark' : 'light'}]);
    await page.setRequestInterception(true);
    page.on('request', answer);
    page.on('pageerror', error => errors.push(String(error.message)));
    page.on('dialog', dialog => { errors.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on('console', message => ['error', 'warn'].includes(message.type()) && errors.push(message.text()));
    await page.goto(url, {waitUntil: 'load', timeout: 60000});
    return {};
  },
  async evaluate({code}) { return {value: await page.evaluate(code)}; },
  async media({type}) { await page.emulateMediaType(type); return {}; },
  async press({key}) { await page.keyboard.press(key); return {}; },
  async click({selector}) { await page.click(selector); return {}; },
  async axe() {
    const source = fs.readFileSync(path.join(axePackages, 'node_modules', 'axe-core', 'axe.min.js'), 'utf8');
    await page.evaluate(source);
    const found = await page.evaluate(() => axe.run());
    const brief = list => list.map(({id, help, nodes}) => ({id, help, where: nodes.map(n => n.html.slice(0, 200))}));
    return {violations: brief(found.violations), undecided: brief(found.incomplete), passes: found.passes.length};
  },
  async said() { return {errors, requests}; },
  async screenshot({file, whole}) { await page.screenshot({path: file, fullPage: whole}); return {}; },
  async pdf({file}) { await page.pdf({path: file, preferCSSPageSize: true, printBackground: true}); return {}; },
};

await answerLines(DO);
await browser?.close();
