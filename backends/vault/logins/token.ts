/** A file with a token from another program. */
import { means, option } from "../../../src/contract/option.ts";
import { absolutePath, object } from "../../../src/contract/settings.ts";
import { method } from "./method.ts";

export const Token = object({
  method: method("token"),
  tokenPath: option(absolutePath, means("a file with a token, read at every poll", { path: "replaced", secret: true })),
});
