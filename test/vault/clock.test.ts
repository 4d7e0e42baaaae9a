/**
 * A machine boots with a wrong clock, and NTP sets it later: this must neither cost certificates nor keep one past its
 * end.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { Canaries, openVault } from "./opened.ts";
import { reply, StandIn } from "./stand-in.ts";

const HOUR = 3600;

test.each([
  ["two hours ahead", 2 * HOUR],
  ["two hours behind", -2 * HOUR],
])("replaces an hour's certificate once, on time, when the clock is %s at boot", async (_, wrong) => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  const tokenPath = join(path, "token");
  await writeFile(tokenPath, "token");
  let now = 0;
  let issued = 0;
  const booted = Date.now() / 1000;
  const server = await StandIn.start();
  server.answering = (asked, response) => {
    if (asked.path !== "/v1/pki/issue/app") return false;
    issued += 1;
    const data = { certificate: `certificate ${issued}`, expiration: Math.floor(booted + now + HOUR) };
    reply(response, 200, { data }, { date: new Date((booted + now) * 1000).toUTCString() });
    return true;
  };
  vi.useFakeTimers({ toFake: ["Date"] });
  onTestFinished(() => void vi.useRealTimers());
  vi.setSystemTime((booted + wrong) * 1000);
  const source = { mount: "pki", path: "issue/app", data: { common_name: "app.test" } };
  const vault = await openVault({ url: server.url, tokenPath }, new Canaries(), { certificate: source }, () => now);
  for (; now < HOUR / 2; now += 60) {
    await vault.value("certificate");
    if (now === 600) vi.setSystemTime((booted + now) * 1000);
  }
  expect(issued).toBe(1);
  now = (2 / 3) * HOUR;
  await vault.value("certificate");
  expect(issued).toBe(2);
});
