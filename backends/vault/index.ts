/** HashiCorp Vault and OpenBao: KV secrets, and secrets that the server makes on request. */
import type { BackendModule } from "../../src/contract/backend.ts";
import { parseSettings, type Settings } from "./settings.ts";
import { describeSource, parseSource, parseWhole, type Source } from "./source.ts";

const vault: BackendModule<Settings, Source> = {
  name: "vault",
  defaultPollingInterval: 60,
  parseSettings,
  parseSource,
  parseWhole,
  describe: describeSource,

  reads: ({ auth, tls }) =>
    Object.entries({ ...auth, ...tls })
      .filter(([option, value]) => typeof value === "string" && /(Path|File|Directory)$/.test(option))
      .map(([, path]) => path as string),

  async open(settings, context) {
    const { url, tls, server } = settings;
    if (tls.insecureDoNotVerifyServer)
      context.log(
        "warn",
        `${server}: tls.insecureDoNotVerifyServer is set: any server that answers there gets the token`,
      );
    else if (url.startsWith("http:") && !isLocal(url))
      context.log("warn", `${server}: token and secrets go over the network in the clear: use https`);
    const { VaultStore } = await import("./store.ts");
    return new VaultStore(settings, context);
  },
};
export default vault;

function isLocal(url: string): boolean {
  return /^(localhost\.?|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname);
}
