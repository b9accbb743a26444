// The page in a real browser. Usage: node check.mjs EXPORTER DEMO HOSTILE [SCREENSHOTS]
// Serves both inputs, looks at every kind of page in light and dark, wide and narrow, and fails on an
// accessibility violation (axe-core), on anything in the console, on a script that ran, on anything
// loaded from elsewhere, on a page that scrolls sideways. Then it walks through the demo with scripts
// disabled, by mouse and by keyboard. With SCREENSHOTS it leaves pictures there.
import { spawn } from "node:child_process";
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

const [exporter, demo, hostile, pictures] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const children = [];

// A browser that hangs must not hang the pipeline. What it takes is some forty seconds.
setTimeout(() => {
  console.error("not done within five minutes");
  children.forEach((child) => child.kill());
  process.exit(1);
}, 300_000).unref();

function serve(manifests) {
  const child = spawn(exporter, ["--source.manifests", manifests, "--web.listen-address", "127.0.0.1:0"], { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let log = "";
    child.stderr.on("data", (data) => {
      log += data;
      const address = /msg=listening address=(\S+)/.exec(log);
      if (address && /msg="?ready/.test(log)) resolve(`http://${address[1]}/`);
    });
    child.on("error", reject);
    child.on("exit", () => reject(new Error(log)));
  });
}

const faults = [];
const views = [["light", 1280, 900], ["dark", 1280, 900], ["light", 360, 740], ["dark", 360, 740], ["light", 1920, 1080]];

async function look(browser, base, path, [scheme, width, height], picture) {
  const page = await browser.newPage();
  const where = `${path} (${scheme}, ${width})`;
  const fault = (what) => faults.push(`${where}: ${what}`);
  page.on("console", (message) => fault(`console: ${message.text()}`));
  page.on("pageerror", (error) => fault(`error: ${error}`));
  page.on("dialog", (dialog) => { fault("a dialog"); dialog.dismiss(); });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) fault(`loads ${url}`);
  });
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const answer = await page.goto(base + path, { waitUntil: "load" });
  const bytes = (await answer.buffer()).length;
  if (answer.status() !== 200) fault(`status ${answer.status()}`);
  if (bytes > 100_000) fault(`${bytes} bytes`);
  if (picture) await page.screenshot({ path: picture, optimizeForSpeed: false });
  const seen = await page.evaluate(() => ({
    scripts: document.scripts.length,
    title: document.title,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    heading: document.querySelector("main h1")?.textContent ?? "",
  }));
  if (seen.scripts > 0 || !seen.title.endsWith("rbac-exporter") || !seen.heading) fault(JSON.stringify(seen));
  if (seen.wide > 0) fault(`scrolls sideways by ${seen.wide} pixels`);
  await page.evaluate(axe); // by the debugger, which the policy of the page does not concern
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const v of violations) fault(`${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target + " " + n.failureSummary.split("\n")[1]).join("; ")}`);
  await page.close();
  return bytes;
}

// What people do, in a browser that runs nothing: each state is an address, each control a link or a form.
async function walk(browser, base) {
  const page = await browser.newPage();
  await page.setJavaScriptEnabled(false);
  const expect = (what, holds) => { if (!holds) faults.push(`without scripts, ${page.url()}: ${what}`); };
  const text = () => page.$eval("main", (main) => main.innerText);
  const go = (act) => Promise.all([page.waitForNavigation(), act()]);
  await page.goto(base);
  await go(() => page.click(".tiles .t-critical a"));
  expect("the tile leads to the open critical ones", page.url().endsWith("subjects?priority=critical&status=open"));
  await page.type("#text", "preview-env");
  await go(() => page.keyboard.press("Enter"));
  expect("the form keeps what was chosen", (await page.$eval("#priority", (s) => s.value)) === "critical");
  expect("one row is left", (await page.$$("tbody tr")).length === 1);
  await go(() => page.click("tbody th a"));
  expect("what to cut", (await text()).includes("kubectl "));
  await go(() => page.click(".path a")); // what the first step of the path rests on
  expect("the rule", new URL(page.url()).hash.length > 1 && (await page.$(":target")) !== null);
  await page.goto(`${base}subjects?limit=20`);
  await go(() => page.click("a[rel=next]"));
  expect("the next page", (await text()).includes("21–40 of"));
  // by keyboard: the first thing is the way past the navigation
  await page.goto(base);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  expect("the skip link", new URL(page.url()).hash === "#main");
  await page.keyboard.press("Tab");
  await go(() => page.keyboard.press("Enter"));
  expect("the first link of the content", new URL(page.url()).pathname === "/subjects");
  await page.close();
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // root in a container has neither a sandbox nor much shared memory
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  timeout: 60_000,
  protocolTimeout: 120_000,
});
let looked = 0, heaviest = [0, ""];
try {
  const subject = "subject?kind=Group&name=web-developers";
  const ordinary = await serve(demo);
  const worlds = [
    [ordinary, ["", "namespaces", "subjects", "subjects?priority=critical&status=open", "subjects?text=nobody", subject, "subject?kind=ServiceAccount&namespace=kube-system&name=tiller", "pods", "pods?by=pod&has=token", "rules"]],
    [await serve(hostile), ["", "namespaces?limit=100", "subjects", "subjects?limit=100", "subjects?sort=name&limit=100", "pods", "pods?limit=100", "pods?by=pod&limit=100", "rules", `subject?kind=User&name=${"x".repeat(253)}`, "subject?kind=Group&name=%3Cscript%3Edocument.title%3D%27taken%27%3C%2Fscript%3E"]],
  ];
  for (const [base, paths] of worlds) {
    for (const path of paths) {
      for (const view of views) {
        const bytes = await look(browser, base, path, view);
        looked += 1;
        if (bytes > heaviest[0]) heaviest = [bytes, path];
      }
    }
  }
  await walk(browser, ordinary);
  if (pictures) {
    mkdirSync(pictures, { recursive: true });
    for (const [name, path, ...view] of [
      ["overview", "", "light", 1280, 1000],
      ["dark", "", "dark", 1280, 1000],
      ["subjects", "subjects?priority=critical&status=open", "light", 1280, 800],
      ["subject", subject, "light", 1280, 1000],
      ["pods", "pods", "light", 1280, 800],
      ["phone", subject, "light", 360, 740],
    ]) await look(browser, ordinary, path, view, `${pictures}/${name}.png`);
  }
} finally {
  await browser.close();
  children.forEach((child) => { child.removeAllListeners("exit"); child.kill(); });
}
console.log(`${looked} views; the heaviest page has ${heaviest[0]} bytes (/${heaviest[1]})`);
if (faults.length > 0) {
  console.error(faults.join("\n"));
  process.exit(1);
}
