import { needs, type Requirement } from "../requirements.ts";
import { type Product, serversHere } from "./binary.ts";

const names: Readonly<Record<Product, string>> = { bao: "OpenBao", vault: "HashiCorp Vault" };

/**
 * Runs the same tests against each product whose server exists here, one after the other.
 *
 * @param also what else they need.
 * @param products those that have the tested feature.
 */
export function onEachServer(
  title: string,
  also: readonly Requirement[],
  body: (product: Product) => void,
  products: readonly Product[] = serversHere(),
): void {
  // Without a server, they are skipped once, under the title alone.
  if (products.length === 0)
    needs("vault-server", ...also).describe(title, () => {
      body("vault");
    });
  for (const product of products)
    needs("vault-server", ...also).describe(`${title}: ${names[product]}`, () => {
      body(product);
    });
}
