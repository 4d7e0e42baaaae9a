/** An identity of AWS. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { objectAs, text } from "../../../src/contract/settings.ts";
import { headerText } from "../setting-types.ts";
import { method, mount } from "./method.ts";

/** As other programs call them. */
const elsewhere = { mount: "path mountpath", serverId: "headervalue iamserveridheader iamserveridheadervalue" };
export const Aws = objectAs(elsewhere, {
  method: method("aws"),
  mount: mount("aws"),
  role: option(v.optional(text), means("the role to log in as", { otherwise: "the server's choice" })),
  region: option(
    v.optional(v.pipe(text, v.regex(/^[a-z0-9-]+$/, "expected the name of an AWS region"))),
    means("the region of the STS that the server asks, as its `sts_endpoint` has it", { otherwise: "the global one" }),
  ),
  serverId: option(v.optional(headerText), means("the server's `iam_server_id_header_value`", { otherwise: "none" })),
  profile: option(
    v.optional(text),
    means("a profile of the AWS configuration files", { otherwise: "the SDK's choice" }),
  ),
});
