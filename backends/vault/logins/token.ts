/** A file with a token from another program. */
import { means, option } from "../../../src/contract/option.ts";
import { absolutePath, objectAs } from "../../../src/contract/settings.ts";
import { method } from "./method.ts";

/** As other programs call them. */
const elsewhere = { tokenPath: "path file tokenfile tokenfilepath" };
export const Token = objectAs(elsewhere, {
  method: method("token"),
  tokenPath: option(absolutePath, means("a file with a token, read at every poll", { path: "replaced", secret: true })),
});
