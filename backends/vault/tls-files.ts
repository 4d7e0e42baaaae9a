/** The TLS side of a connection: authorities, client certificate and key, read again when their files are replaced. */
import fs from "node:fs";
import { join } from "node:path";
import type { SecureContextOptions } from "node:tls";
import { BackendError } from "../../src/contract/backend.ts";
import { errnoCode, printable } from "../../src/contract/errors.ts";
import { promised, statOf } from "../../src/contract/file-calls.ts";
import { failure, notYet, readFiles } from "../files/read.ts";
import type { TlsSettings } from "./settings.ts";

export class TlsFiles {
  readonly #settings: TlsSettings;
  #identity: string | undefined;

  constructor(settings: TlsSettings) {
    this.#settings = settings;
  }

  /**
   * @returns undefined where nothing has changed since the last call; the first call always has a result.
   * @throws BackendError if a file cannot be read, is not PEM, or certificate and key do not match.
   */
  async changed(signal: AbortSignal): Promise<SecureContextOptions | undefined> {
    const { caFile, caDirectory, certFile, keyFile } = this.#settings;
    const authorities = [...(caFile === undefined ? [] : [caFile]), ...(await filesIn(caDirectory))];
    const paths = [...authorities, certFile, keyFile].filter((path) => path !== undefined);
    const identity = (await Promise.all(paths.map(identityOf))).join(" ");
    if (identity === this.#identity) return undefined;
    const outcomes = await readFiles(new Map(paths.map((path) => [path, path])), signal);
    const read = (path: string): Buffer => {
      const outcome = outcomes.get(path);
      if (outcome === undefined || !("status" in outcome)) throw outcome ?? new BackendError("unavailable", "not read");
      // Somebody is replacing the certificate, or it comes late at boot.
      if (outcome.status === "missing") throw new BackendError("unavailable", notYet(path));
      return withoutMark(outcome.value);
    };
    const context: SecureContextOptions = {};
    if (authorities.length > 0) context.ca = this.#authorities(authorities, read);
    if (certFile !== undefined) context.cert = certificateIn(certFile, read(certFile));
    if (keyFile !== undefined) context.key = keyIn(keyFile, read(keyFile));
    check(context);
    this.#identity = identity;
    return context;
  }

  /**
   * OpenSSL passes over what is no PEM, and then trusts nobody. A directory may have other files beside its certificates.
   *
   * @throws BackendError
   */
  #authorities(paths: readonly string[], read: (path: string) => Buffer): string[] {
    const { caFile, caDirectory = "" } = this.#settings;
    const texts = new Map(paths.map((path) => [path, pem(read(path))]));
    const certificates = [...texts].filter(([, text]) => CERTIFICATE.test(text));
    if (caFile !== undefined && !CERTIFICATE.test(texts.get(caFile) ?? "")) throw noCertificate(caFile);
    if (certificates.length === 0) throw noCertificate(caDirectory);
    for (const [path, text] of certificates) refuseCut(path, text);
    return certificates.map(([, text]) => text);
  }
}

const CERTIFICATE = /^-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/m;

/** @throws BackendError */
function certificateIn(path: string, bytes: Buffer): Buffer {
  const text = pem(bytes);
  if (!CERTIFICATE.test(text)) throw noCertificate(path);
  refuseCut(path, text);
  return bytes;
}

/** @throws BackendError */
function keyIn(path: string, bytes: Buffer): Buffer {
  const text = pem(bytes);
  if (/^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text))
    throw new BackendError(
      "invalid",
      `the key in ${printable(path)} has a passphrase, which nobody can type here (openssl pkey removes it)`,
    );
  if (!/^-----BEGIN [A-Z ]*PRIVATE KEY-----/m.test(text))
    throw new BackendError("invalid", `no private key in PEM form in ${printable(path)}`, undefined, WRITTEN_WITHIN);
  refuseCut(path, text);
  return bytes;
}

/** OpenSSL silently leaves out an authority whose end is missing. @throws BackendError */
function refuseCut(path: string, text: string): void {
  const count = (word: string) => text.split(`-----${word} `).length;
  if (count("BEGIN") === count("END")) return;
  throw new BackendError("invalid", `${printable(path)} ends in the middle (of a copy?)`, undefined, WRITTEN_WITHIN);
}

function noCertificate(path: string): BackendError {
  const message = `no certificate in PEM form in ${printable(path)} (openssl x509 -inform der converts from DER)`;
  return new BackendError("invalid", message, undefined, WRITTEN_WITHIN);
}

/** Seconds in which a file that is written in place is whole again. */
const WRITTEN_WITHIN = 10;

function check(context: SecureContextOptions): void {
  try {
    process.getBuiltinModule("node:tls").createSecureContext(context);
  } catch (error) {
    const code = errnoCode(error) ?? "unknown error";
    // One of the two has been replaced already.
    if (code === "ERR_OSSL_X509_KEY_VALUES_MISMATCH" || code === "ERR_OSSL_X509_KEY_TYPE_MISMATCH")
      throw new BackendError("unavailable", "tls.certFile and tls.keyFile do not match (yet)");
    const message = `the files of \`tls\` are no certificates and key in PEM form (${code})`;
    throw new BackendError("invalid", message, undefined, WRITTEN_WITHIN);
  }
}

/** A directory of authorities, as update-ca-certificates(8) makes it, has each twice: by name and by hash. */
async function filesIn(directory: string | undefined): Promise<string[]> {
  if (directory === undefined) return [];
  try {
    const all = await promised<string[]>((done) => {
      fs.readdir(directory, done);
    });
    const names = all.filter((name) => /\.(pem|crt|cer)$/i.test(name)).sort();
    if (names.length > 0) return names.map((name) => join(directory, name));
  } catch (error) {
    throw failure(error, "read", directory);
  }
  throw new BackendError("unavailable", `no *.pem, *.crt or *.cer in ${printable(directory)} (yet)`);
}

async function identityOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await statOf(path);
    return [dev, ino, size, mtimeNs, ctimeNs].join(":");
  } catch {
    // Reading the file says why.
    return "none";
  }
}

/** Without the byte order mark of UTF-8, which some editors write. */
function withoutMark(bytes: Buffer): Buffer {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes;
}

function pem(authority: Buffer): string {
  return authority.toString("latin1");
}
