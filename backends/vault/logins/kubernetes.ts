/** The token of a pod's service account. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { objectAs, text } from "../../../src/contract/settings.ts";
import { jwtElsewhere, jwtPath, method, mount } from "./method.ts";

export const Kubernetes = objectAs(jwtElsewhere, {
  method: method("kubernetes"),
  mount: mount("kubernetes"),
  role: option(text, means("the role to log in as")),
  jwtPath: v.optional(jwtPath, "/var/run/secrets/kubernetes.io/serviceaccount/token"),
});
