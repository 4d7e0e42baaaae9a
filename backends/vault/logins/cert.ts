/** The certificate that the connection shows. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { object, text } from "../../../src/contract/settings.ts";
import { method, mount } from "./method.ts";

export const Cert = object({
  method: method("cert"),
  mount: mount("cert"),
  role: option(
    v.optional(text),
    means("the role to log in as; the certificate is that of `tls`", { otherwise: "any that fits" }),
  ),
});
