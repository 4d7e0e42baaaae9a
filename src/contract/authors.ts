/** What the package exports to authors of backends, as `secrets-sidecar/backend`. */
export {
  type Backend,
  type BackendContext,
  BackendError,
  type BackendErrorKind,
  type BackendModule,
  type Fetched,
  type Missing,
  type Outcome,
  type SecretRequest,
} from "./backend.ts";
export { ConfigError } from "./errors.ts";
