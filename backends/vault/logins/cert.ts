/** The certificate that the connection shows. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { objectAs, text } from "../../../src/contract/settings.ts";
import { method, mount } from "./method.ts";

/** As other programs call them. */
const elsewhere = { mount: "path mountpath", role: "name" };
export const Cert = objectAs(elsewhere, {
  method: method("cert"),
  mount: mount("cert"),
  role: option(
    v.optional(text),
    means("the role to log in as; the certificate is that of `tls`", { otherwise: "any that fits" }),
  ),
});
