// npm run bench [-- ROUNDS]: the figures of docs/explanation/figures.md, each beside a baseline of the same run (absolute times say
// little: they depend on the machine and on what else it does). 7 rounds take about five minutes.
// npm run bench -- fleet: 200 sidecars at one real Vault. npm run bench -- simulation: 10,000, simulated.
// npm run bench -- peers: fetcher beside consul-template, Vault Agent and a shell loop, some seven minutes.
import { fileURLToPath } from "node:url";
import { bundled } from "./bundled.mjs";

const others = { fleet: "vault-fleet", simulation: "fleet-plot", peers: "peers" };
const [wanted = "7", ...rest] = process.argv.slice(2);
process.chdir(fileURLToPath(new URL("..", import.meta.url)));
if (rest.length === 0 && /^[1-9]\d*$/.test(wanted)) await (await bundled("figures")).figures(Number(wanted));
else if (rest.length === 0 && Object.hasOwn(others, wanted)) await (await bundled(others[wanted]))[wanted]();
else {
  console.error(`usage: npm run bench [-- ROUNDS | ${Object.keys(others).join(" | ")}]`);
  process.exit(64);
}
process.exit(0);
