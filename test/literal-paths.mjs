// vitest imports what lies in node_modules by its bare path, which Node takes for a URL's: `%20` in the name of a folder
// would become a space (Node's documentation, "esm: URLs"). vitest.config.ts loads this where the checkout's path has a `%`.
import { register } from "node:module";

const hooks = `
  import { pathToFileURL } from "node:url";
  export const resolve = (name, context, next) => next(name.startsWith("/") ? pathToFileURL(name).href : name, context);
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
