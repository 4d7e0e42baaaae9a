/** Types that several settings of a Vault share. */
import * as v from "valibot";
import { text } from "../../src/contract/settings.ts";

/** `secret`, `team/kv`: kept as it is typed, without the slashes around it. */
export const pathText = v.pipe(
  text,
  v.transform((path) => path.replace(/^\/+|\/+$/g, "")),
  v.check((path) => path !== "", "must not be empty"),
  v.check((path) => !/[\u0000-\u001f\u007f]/.test(path), "must not contain control characters"),
  // A URL with such a segment is another URL.
  v.check(
    (path) => path.split("/").every((segment) => segment !== "" && segment !== "." && segment !== ".."),
    'must not contain empty segments, "." or ".."',
  ),
);

export const flag = v.boolean("expected true or false");

/** Goes into a header. */
export const headerText = v.pipe(
  text,
  v.check((value) => /^[\x21-\x7e]+$/.test(value), "expected printable ASCII without spaces"),
);
