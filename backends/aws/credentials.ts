/** Who we are for AWS: what the SDK finds on the machine, or a role that is assumed with it. */
import { fromNodeProviderChain, fromTemporaryCredentials } from "@aws-sdk/credential-providers";
import { loginFailure } from "./failure.ts";
import type { Settings } from "./source.ts";

type Provider = ReturnType<typeof fromTemporaryCredentials>;

/**
 * Environment, shared files, processes, web identity and the machine's own role, in the SDK's order. The SDK asks again
 * when they expire, and after a failure; where they have no end, it keeps them for the life of the client.
 *
 * @returns what rejects with a BackendError that says who could not be had.
 */
export function credentialsOf({ endpoint, profile, roleArn, externalId }: Settings, region: string): Provider {
  const ofProfile = profile === undefined ? {} : { profile };
  // The SDK reads a file once for the life of the process, also one that was not there yet (SDK 3.1169).
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
