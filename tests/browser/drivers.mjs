// Three real browsers behind one small interface:
//
//   launch(name) → { name, version, open(url), text(selector), screenshot(file), log, close(),
//                    evaluate(expression), click(selector), type(selector, text), press(key),
//                    drag(selector, points), choose(selector, file), resize(width, height),
//                    newTab() }
//
// newTab opens a second page of the same profile and gives { open, text, evaluate }; WebKit's
// driver does one thing at a time, whichever page it is in.
//
// evaluate gives the value of an expression in the page, awaited. type replaces what a field holds;
// press sends a key by its DOM name to what has the focus; drag's points are [x, y] from the
// element's corner, in CSS pixels; choose gives a file of this machine to a file field. All are
// trusted events, as a person's. resize is of the page, in CSS pixels, as near as the window goes.
//
// log collects what the page and the browser said, in order (WebKit's driver tells nothing of the
// page's console); text is null while there is no such element. close() ends everything that launch
// started, and so does the end of this process.
// Debian's own binaries are used, found by name: the driver packages bring no browser.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';

// Starting a browser takes 2 to 5 s; on a machine that also trains a model, several times that.
const launchTimeout = 90_000;

function onPath(program) {
  const file = process.env.PATH.split(delimiter).map((folder) => join(folder, program))
    .find((candidate) => existsSync(candidate));
  if (!file) throw new Error(`${program} is not on PATH`);
  return file;
}

// A signal ends Node without its 'exit' event, and with it what endWithUs waits for.
for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) {
  process.once(signal, () => process.exit(status));
}

/** Ends a process group with this process at the latest; gives the function that ends it now. */
function endWithUs(pid) {
  const end = () => {
    process.off('exit', end);
    try { process.kill(-pid, 'SIGKILL'); } catch { /* it has ended already */ }
  };
  process.once('exit', end);
  return end;
}

/** The page events that Playwright and Puppeteer name alike. */
function listen(page, log) {
  page.on('console', (message) => log.push(`console ${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => log.push(`page error: ${error.message}`));
  page.on('requestfailed', (request) => {
    const failure = request.failure();
    log.push(`request failed: ${request.url()} ${failure?.errorText ?? ''}`);
  });
}

/** What Playwright and Puppeteer do alike. */
function pageActions(page) {
  return {
    // Not locator(): it waits for the element.
    text: async (selector) => {
      const element = await page.$(selector);
      return element ? element.evaluate((node) => node.textContent) : null;
    },
    evaluate: (expression) => page.evaluate(expression),
    click: (selector) => page.click(selector),
    press: (key) => page.keyboard.press(key),
    drag: async (selector, points) => {
      const element = await page.$(selector);
      await element.evaluate((node) =>
        node.scrollIntoView({ block: 'center', behavior: 'instant' }));
      const { x, y } = await element.boundingBox();
      const [[fromX, fromY]] = points;
      await page.mouse.move(x + fromX, y + fromY);
      await page.mouse.down();
      for (const [toX, toY] of points) await page.mouse.move(x + toX, y + toY);
      await page.mouse.up();
    },
  };
}

async function launchChromium({ args = [] }) {
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({
    executablePath: onPath('chromium'),
    timeout: launchTimeout,
    // No sandbox: it does not start for root. The rest keeps Chromium from calling home.
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', ...args],
  });
  const context = await browser.newContext();
  const page = await context.newPage();
  const log = [];
  const tabOf = (tab) => {
    listen(tab, log);
    tab.on('crash', () => log.push('the page crashed'));
    return { open: (url) => tab.goto(url, { waitUntil: 'commit' }), ...pageActions(tab) };
  };
  return {
    version: browser.version(),
    log,
    ...tabOf(page),
    newTab: async () => tabOf(await context.newPage()),
    screenshot: (file) => page.screenshot({ path: file, fullPage: true }),
    type: (selector, text) => page.fill(selector, text),
    choose: (selector, file) => page.setInputFiles(selector, file),
    resize: (width, height) => page.setViewportSize({ width, height }),
    page,
    close: () => browser.close(),
  };
}

async function launchFirefox({ prefs = {} }) {
  const { default: puppeteer } = await import('puppeteer-core');
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: onPath('firefox-esr'),
    headless: true,
    extraPrefsFirefox: prefs,
    timeout: launchTimeout,
    protocolTimeout: launchTimeout,
  });
  const end = endWithUs(browser.process().pid);
  const page = await browser.newPage();
  const log = [];
  const tabOf = (tab) => {
    listen(tab, log);
    return {
      open: (url) => tab.goto(url, { waitUntil: 'domcontentloaded', timeout: launchTimeout }),
      ...pageActions(tab),
    };
  };
  return {
    version: await browser.version(),
    log,
    ...tabOf(page),
    newTab: async () => tabOf(await browser.newPage()),
    screenshot: (file) => page.screenshot({ path: file, fullPage: true }),
    type: async (selector, text) => {
      await page.click(selector, { clickCount: 3 });
      await page.keyboard.type(text);
    },
    choose: async (selector, file) => (await page.$(selector)).uploadFile(file),
    resize: (width, height) => page.setViewport({ width, height }),
    close: () => browser.close().finally(end),
  };
}

/** A display of our own, whose number Xvfb chooses and tells on file descriptor 3. */
async function startDisplay() {
  const child = spawn(onPath('Xvfb'), ['-displayfd', '3', '-screen', '0', '1280x1024x24',
    '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'], detached: true });
  const end = endWithUs(child.pid);
  const display = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('Xvfb does not start')), launchTimeout);
    child.once('error', reject).once('exit', () => reject(new Error('Xvfb ended')));
    child.stdio[3].once('data', (bytes) => resolve(`:${bytes.toString().trim()}`));
    child.stdio[3].once('data', () => clearTimeout(late));
  });
  return { display, end };
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

/** WebKit's driver, which starts the browser; what both print goes to the log. */
async function startWebKitDriver(display, env, log) {
  const port = await freePort();
  const child = spawn(onPath('WebKitWebDriver'), ['--host=127.0.0.1', `--port=${port}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    // Its own sandbox does not start for root, and there is no message bus to talk to.
    env: { ...process.env, DISPLAY: display, GDK_BACKEND: 'x11', NO_AT_BRIDGE: '1',
      GSETTINGS_BACKEND: 'memory', ...env },
  });
  const end = endWithUs(child.pid);
  const take = (bytes) => log.push(...bytes.toString().split('\n').filter(Boolean));
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const server = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + launchTimeout;
  while (!(await fetch(`${server}/status`).then((answer) => answer.ok, () => false))) {
    if (performance.now() > deadline) throw new Error(`WebKitWebDriver: ${log.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { server, end };
}

/** MiniBrowser lies beside the library, in a folder with the machine's name in it. */
function miniBrowser() {
  const files = readdirSync('/usr/lib').flatMap((machine) => ['4.1', '4.0'].map((version) =>
    `/usr/lib/${machine}/webkit2gtk-${version}/MiniBrowser`));
  const file = files.find((candidate) => existsSync(candidate));
  if (!file) throw new Error('MiniBrowser is not where Debian puts it');
  return file;
}

function webDriverActions(driver, By, Key) {
  const inView = async (selector) => {
    const element = await driver.findElement(By.css(selector));
    await driver.executeScript(
      'arguments[0].scrollIntoView({ block: "center", behavior: "instant" })', element);
    return element;
  };
  const keys = { Enter: Key.ENTER, Tab: Key.TAB, Escape: Key.ESCAPE, ArrowLeft: Key.ARROW_LEFT,
    ArrowRight: Key.ARROW_RIGHT };
  return {
    // Of the driver's own making is only the waiting: what a script returns is not awaited.
    evaluate: (expression) => driver.executeAsyncScript(`const done = arguments[0];
      Promise.resolve((${expression})).then((value) => done({ value }),
        (error) => done({ error: String(error) }));`).then(({ value, error }) => {
      if (error) throw new Error(error);
      return value;
    }),
    click: async (selector) => (await inView(selector)).click(),
    type: async (selector, text) => {
      const element = await inView(selector);
      await element.clear();
      await element.sendKeys(text);
    },
    choose: async (selector, file) => (await driver.findElement(By.css(selector))).sendKeys(file),
    // No frame stands around it here; the page hears of it later.
    resize: async (width, height) => {
      await driver.manage().window().setRect({ x: 0, y: 0, width, height });
      await driver.wait(async () => Math.abs(await driver.executeScript('return innerWidth') -
        width) < 20, 2000).catch(() => { /* a window of that browser is never so narrow */ });
    },
    press: (key) => driver.actions().sendKeys(keys[key] ?? key).perform(),
    drag: async (selector, points) => {
      const element = await inView(selector);
      const { width, height } = await element.getRect();
      // An origin is an element's middle here.
      const to = ([x, y]) => ({ origin: element, x: Math.round(x - width / 2),
        y: Math.round(y - height / 2), duration: 0 });
      const actions = driver.actions().move(to(points[0])).press();
      for (const point of points) actions.move(to(point));
      await actions.release().perform();
    },
  };
}

/** What a page of WebDriver does; `at` is run before everything, one thing after the other. */
function webDriverTab(driver, By, at) {
  const { evaluate } = webDriverActions(driver, By, {});
  return {
    open: (url) => at(() => driver.get(url)),
    text: (selector) => at(async () => {
      const [element] = await driver.findElements(By.css(selector));
      return element ? element.getAttribute('textContent') : null;
    }),
    evaluate: (expression) => at(() => evaluate(expression)),
  };
}

/** Turns of the pages: gives the function that opens a page and gives its tab. */
async function webDriverTabs(driver, By) {
  let last = Promise.resolve();
  const handles = [await driver.getWindowHandle()];
  const tabOf = (handle) => webDriverTab(driver, By, (work) => {
    const turn = last.then(async () => {
      // Asked for only where there are several: a dialog or a load may be in the way.
      if (handles.length > 1) await driver.switchTo().window(handle);
      return work();
    });
    last = turn.catch(() => {});
    return turn;
  });
  return {
    first: tabOf(handles[0]),
    newTab: async () => {
      await last;
      await driver.switchTo().newWindow('tab');
      handles.push(await driver.getWindowHandle());
      return tabOf(handles.at(-1));
    },
  };
}

async function launchWebKit({ env = {} }) {
  const { Builder, By, Key } = await import('selenium-webdriver');
  const log = [];
  const screen = await startDisplay();
  const service = await startWebKitDriver(screen.display, env, log);
  const driver = await new Builder().usingServer(service.server).withCapabilities({
    browserName: 'MiniBrowser',
    'webkitgtk:browserOptions': {
      binary: miniBrowser(),
      args: ['--automation'],
    },
  }).build();
  const version = (await driver.getCapabilities()).get('browserVersion');
  const { first, newTab } = await webDriverTabs(driver, By);
  await driver.manage().setTimeouts({ script: launchTimeout });
  return {
    version,
    log,
    screenshot: async (file) => writeFileSync(file, await driver.takeScreenshot(), 'base64'),
    ...webDriverActions(driver, By, Key),
    ...first,
    newTab,
    close: async () => {
      try {
        await driver.quit();
      } finally {
        service.end();
        screen.end();
      }
    },
  };
}

const launchers = { chromium: launchChromium, firefox: launchFirefox, webkit: launchWebKit };

/** Starts chromium, firefox or webkit; in the error, which one did not start. Options: args, more
 * of them for Chromium; prefs for Firefox; env, of WebKit's processes. */
export async function launch(name, options = {}) {
  try {
    return { name, ...(await launchers[name](options)) };
  } catch (error) {
    throw new Error(`${name} does not start: ${error.message}`, { cause: error });
  }
}
