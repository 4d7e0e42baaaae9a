/** The table of logins: each a file with its options. */
import type * as v from "valibot";
import { object } from "../../../src/contract/settings.ts";
import { AppRole } from "./approle.ts";
import { Aws } from "./aws.ts";
import { Cert } from "./cert.ts";
import { Jwt } from "./jwt.ts";
import { Kubernetes } from "./kubernetes.ts";
import { method } from "./method.ts";
import { Token } from "./token.ts";

/** No token at all: an agent's socket, where its mode decides who may use it. */
const None = object({ method: method("none") });

/** `mount` is where a method is mounted below `auth/`. */
export const methods = {
  token: Token,
  approle: AppRole,
  jwt: Jwt,
  kubernetes: Kubernetes,
  cert: Cert,
  aws: Aws,
  none: None,
};
type Method = keyof typeof methods;
export type Auth = { [M in Method]: v.InferOutput<(typeof methods)[M]> }[Method];
