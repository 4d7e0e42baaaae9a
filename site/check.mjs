// node site/check.mjs [--brief] [--screenshots FOLDER]: looks at every page of dist.site/ with a headless Chromium, in both colour
// schemes, as wide as a desk's screen and as narrow as a phone's. Says what is wrong, a line each, and ends with 1 where something is.
import { complaintsOfAxe } from "./axe.mjs";
import { chromium } from "playwright-core";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, posix } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "../dist.site");
const { values: flags } = parseArgs({ options: { brief: { type: "boolean" }, screenshots: { type: "string" } } });
const types = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
const views = { desk: { width: 1440, height: 900 }, phone: { width: 375, height: 700 } };

const pages = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".html") && path !== "404.html")
  .sort();
// Axe takes most of the time: with --brief it looks at each sixth page. The dark colours are then looked at on these, and where
// a picture has its own; on a desk's screen.
const readable = new Set(pages.filter((page, index) => !flags.brief || page === "index.html" || index % 6 === 0));
const server = createServer(answer).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: program(), args: ["--no-sandbox", "--disable-gpu"] });
const problems = new Set();
try {
  const anchors = new Map(pages.map((page) => [`/${page}`, anchorsOf(page)]));
  for (const scheme of ["light", "dark"])
    for (const [view, viewport] of Object.entries(views)) {
      if (flags.brief && scheme === "dark" && view === "phone") continue;
      const context = await browser.newContext({ viewport, colorScheme: scheme, reducedMotion: "reduce" });
      const tab = await context.newPage();
      for (const page of flags.brief && scheme === "dark" ? pages.filter(isOfDark) : pages)
        await look(tab, page, `${page}, ${scheme}, ${view}`, scheme, view, anchors);
      if (scheme === "light") await search(tab, view);
      if (scheme === "light" && view === "desk") await sidebar(tab);
      await context.close();
    }
} finally {
  await browser.close();
  server.close();
}
for (const problem of problems) console.error(problem);
console.log(`${pages.length} pages, ${problems.size} problems`);
if (problems.size > 0 || pages.length < 10) process.exit(1);

/** Whether a page differs in the dark by more than the colours that all pages have. */
function isOfDark(page) {
  return readable.has(page) || /<picture|<img|<style|class="mermaid/.test(readFileSync(join(root, page), "utf8"));
}

async function look(tab, page, where, scheme, view, anchors) {
  const tell = (problem) => problems.add(`${where}: ${problem}`);
  const onConsole = (message) => ["error", "warning"].includes(message.type()) && tell(message.text());
  const onError = (error) => tell(`a script failed: ${error.message}`);
  const onResponse = (response) => response.status() >= 400 && tell(`${response.url()} is not there`);
  // A stranger's host would see who reads what.
  const onRequest = (request) =>
    !/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== origin && tell(`asks ${request.url()}`);
  tab.on("console", onConsole).on("pageerror", onError).on("response", onResponse).on("request", onRequest);
  await tab.goto(`${origin}/${page}`, { waitUntil: "load" });
  await tab.waitForFunction(() => document.querySelector("#app")?.__vue_app__ !== undefined);
  // Pictures are there when the page is; a page's script may ask for more.
  if (view === "desk" && scheme === "light") await tab.waitForLoadState("networkidle");
  const links = await tab.$$eval("a[href]", (all) => all.map((link) => link.href));
  for (const link of new Set(links)) if (link.startsWith(origin)) checkLink(link, anchors, tell);
  const broken = await tab.$$eval("img", (all) =>
    all.filter((img) => img.checkVisibility() && img.complete && img.naturalWidth === 0).map((img) => img.src),
  );
  for (const picture of broken) tell(`the picture ${picture} does not show`);
  const shrunk = await tab.evaluate(() =>
    [...document.querySelectorAll(".vp-doc img")]
      .filter(
        (image) =>
          image.clientWidth > 0 && image.clientWidth < (image.closest(".chart") ? 700 : image.naturalWidth * 0.7),
      )
      .map((image) => image.getAttribute("src")),
  );
  if (view === "phone") for (const picture of shrunk) tell(`the picture ${picture} is too small to read`);
  const split = await tab.$$eval(".vp-doc :not(pre) > code", splitOptions);
  for (const option of new Set(split)) tell(`a line ends within the option ${option}`);
  const tooWide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (tooWide > 0) tell(`is ${tooWide} px wider than the screen`);
  if (view === "desk" && (await tab.$(".VPDoc:not(.has-aside)")) !== null) {
    const scrolling = await tab.$$eval(".vp-doc table", (all) => all.some((one) => one.scrollWidth > one.clientWidth));
    if (scrolling) tell("a table is wider than its column, beside a place that is free");
  }
  if (readable.has(page) && (view === "desk" || page === "index.html"))
    for (const violation of await complaintsOfAxe(tab)) tell(violation);
  if (flags.screenshots !== undefined) {
    mkdirSync(flags.screenshots, { recursive: true });
    await tab.screenshot({ path: join(flags.screenshots, `${page.replaceAll("/", "_")}-${scheme}-${view}.png`) });
  }
  tab.off("console", onConsole).off("pageerror", onError).off("response", onResponse).off("request", onRequest);
}

/** Runs in the page. @returns the options that do not stand in one line. */
function splitOptions(all) {
  return all.flatMap((code) => {
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    const split = [];
    while (texts.nextNode()) {
      const { data } = texts.currentNode;
      for (const { 0: option, index } of data.matchAll(/(?<![\w-])--?[a-z][\w-]*/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, index);
        range.setEnd(texts.currentNode, index + option.length);
        if (new Set(Array.from(range.getClientRects(), ({ top }) => Math.round(top))).size > 1) split.push(option);
      }
    }
    return split;
  });
}

/** The names that links may lead to, as the server renders them. */
function anchorsOf(page) {
  return new Set([...readFileSync(join(root, page), "utf8").matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
}

function checkLink(link, anchors, tell) {
  const { pathname, hash } = new URL(link);
  const target = fileFor(decodeURIComponent(pathname));
  if (target === undefined) tell(`a link leads to ${pathname}, which is not there`);
  else if (hash !== "" && !anchors.get(target)?.has(decodeURIComponent(hash.slice(1))))
    tell(`a link leads to ${pathname}${hash}, and there is no such heading`);
}

/** A reader types a word, and gets to the page. */
async function search(tab, view) {
  await tab.goto(`${origin}/index.html`, { waitUntil: "networkidle" });
  await tab.click("button.DocSearch-Button");
  await tab.fill("input.search-input", "splay");
  const found = await tab.waitForSelector("a.result", { timeout: 20_000 }).catch(() => undefined);
  const href = await found?.getAttribute("href");
  if (!href?.includes("/")) problems.add(`${view}: the search finds nothing for "splay"`);
  if (flags.screenshots !== undefined) await tab.screenshot({ path: join(flags.screenshots, `search-${view}.png`) });
}

/** The index of the documents and the sidebar have the same pages in the same order. */
async function sidebar(tab) {
  await tab.goto(`${origin}/documents.html`, { waitUntil: "load" });
  const leads = (selector) =>
    tab.$$eval(selector, (links) => links.map(({ pathname }) => pathname.replace(/\.html$/, "")));
  const inSidebar = new Set(await leads(".VPSidebar a"));
  const inIndex = new Set((await leads(".vp-doc li a:first-of-type")).filter((path) => inSidebar.has(path)));
  const wrong = [...inSidebar].filter((path) => inIndex.has(path)).find((path, index) => path !== [...inIndex][index]);
  if (wrong !== undefined || inIndex.size < 10)
    problems.add(`the sidebar has ${wrong} at another place than the index`);
}

function answer(request, response) {
  const path = fileFor(decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (path === undefined) response.writeHead(404).end();
  else
    response
      .writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" })
      .end(readFileSync(join(root, path)));
}

/** As any plain server of files finds it. */
function fileFor(path) {
  const clean = posix.normalize(path);
  return [clean, `${clean}.html`, posix.join(clean, "index.html")].find(
    (file) => extname(file) !== "" && existsSync(join(root, file)),
  );
}

function program() {
  const names = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const found = names.find((name) => name !== undefined && existsSync(name));
  if (found === undefined)
    throw new Error("no Chromium: install Debian's package chromium, or set CHROMIUM to its path");
  return found;
}
