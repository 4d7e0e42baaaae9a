import { mkdir, rename, rm, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { BackendError } from "../../src/contract/backend.ts";
import { ConfigError } from "../../src/contract/errors.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { Observed } from "./observed.ts";
import { temporary } from "./temporary.ts";

/** The directory that systemd makes for a unit, as systemd.exec(5) describes it: a file for each credential. */
async function fixture(): Promise<Fixture> {
  const { path: directory, dispose } = await temporary();
  process.env["CREDENTIALS_DIRECTORY"] = directory;
  return {
    module: await loadBackend("credentials", "/"),
    settings: () => ({}),
    place: (id) => `credential ${id}`,
    async put(id, value) {
      await writeFile(join(directory, `.new-${id}`), value);
      await rename(join(directory, `.new-${id}`), join(directory, id));
    },
    remove: (id) => unlink(join(directory, id)),
    async refuse(id) {
      await rm(join(directory, id));
      await mkdir(join(directory, id));
      return "invalid";
    },
    async dispose() {
      delete process.env["CREDENTIALS_DIRECTORY"];
      await dispose();
    },
  };
}

contractSuite(
  "credentials",
  {
    values: "bytes",
    empty: "value",
    mayAppear: false,
    // systemd refreshes them on reload, where it can.
    changes: true,
    watches: false,
    outage: false,
    refuses: true,
    stalls: false,
  },
  fixture,
);

test("names the settings that pass credentials to a unit that has none", async () => {
  const credentials = await loadBackend("credentials", "/");
  const context = { log: () => undefined, random: Math.random };
  await expect(async () => credentials.open({}, context)).rejects.toThrow(BackendError);
  await expect(async () => credentials.open({}, context)).rejects.toMatchObject({
    kind: "invalid",
    message: expect.stringContaining("LoadCredentialEncrypted=") as string,
  });
});

test("a check of the configuration refuses a name that systemd would refuse", async () => {
  const credentials = await loadBackend("credentials", "/");
  for (const name of ["a:b", "a/b", "..", "schlüssel", "a\nb"])
    expect(() => credentials.parseSource("id", { name }, {}), name).toThrow(ConfigError);
  expect(credentials.parseSource("tls key.pem", {}, {})).toEqual({ name: "tls key.pem" });
});

test("a mistyped name: names the nearest credential that the unit has, unless another secret has it", async () => {
  const { path: directory, dispose } = await temporary();
  process.env["CREDENTIALS_DIRECTORY"] = directory;
  onTestFinished(async () => {
    delete process.env["CREDENTIALS_DIRECTORY"];
    await dispose();
  });
  await writeFile(join(directory, "db_password"), "canary");
  const observed = await Observed.open(await loadBackend("credentials", "/"), {});
  const where = "the sidecar's unit has no credential db_pasword (LoadCredential=db_pasword:...)";
  expect(await observed.outcome("db_pasword")).toEqual({
    status: "missing",
    where: `${where}; did you mean "db_password"?`,
  });
  expect((await observed.fetch("db_pasword", "db_password")).get("db_pasword")).toEqual({ status: "missing", where });
});
