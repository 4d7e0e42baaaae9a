/** Our identity for AWS: the credentials that the SDK finds on the machine, or a role assumed with them. */
import { fromNodeProviderChain, fromTemporaryCredentials } from "@aws-sdk/credential-providers";
import { loginFailure } from "./failure.ts";
import type { Settings } from "./source.ts";

type Provider = ReturnType<typeof fromTemporaryCredentials>;

/**
 * Looks at the environment, shared files, processes, web identity and the machine's own role, in the SDK's order. The
 * SDK gets new credentials when the old ones expire, and after a failure. It keeps credentials without an end for the
 * life of the client.
 *
 * @returns a provider that rejects with a BackendError, which names the profile or the role that failed.
 */
export function credentialsOf({ endpoint, profile, roleArn, externalId }: Settings, region: string): Provider {
  const ofProfile = profile === undefined ? {} : { profile };
  // Without `ignoreCache` the SDK reads a file once per process, and remembers a missing one, too (SDK 3.1169).
  const own = fromNodeProviderChain({ ...ofProfile, ignoreCache: true });
  const ownOrWhy: Provider = (caller) =>
    own(caller).catch((error: unknown) => {
      throw loginFailure(error, profile === undefined ? "" : `profile ${JSON.stringify(profile)}: `);
    });
  if (roleArn === undefined) return ownOrWhy;
  const assumed = fromTemporaryCredentials({
    masterCredentials: ownOrWhy,
    params: {
      RoleArn: roleArn,
      RoleSessionName: "fetcher",
      ...(externalId === undefined ? {} : { ExternalId: externalId }),
    },
    clientConfig: { region, ...ofProfile, ...(endpoint === undefined ? {} : { endpoint }) },
  });
  return (caller) =>
    assumed(caller).catch((error: unknown) => {
      throw loginFailure(error, `cannot assume ${roleArn}: `);
    });
}
