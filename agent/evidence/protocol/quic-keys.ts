/** Keys of QUIC's Initial packets (RFC 9001, 5.2; RFC 9369, 3.3): whoever sees the first packet has them. */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';

export interface InitialKeys {
  key: Buffer;
  iv: Buffer;
  /** Of the header's protection. */
  header: Buffer;
}

interface Version {
  salt: string;
  /** Before `key`, `iv` and `hp`. */
  prefix: string;
  /** The type of an Initial packet in its first byte. */
  initial: number;
}

const VERSIONS = new Map<number, Version>([
  [0x0000_0001, { salt: '38762cf7f55934b34d179ae6a4c80cadccbb7f0a', prefix: 'quic', initial: 0 }],
  [0x6b33_43cf, { salt: '0dede3def700a6db819381be6e269dcbf9bd2ed9', prefix: 'quicv2', initial: 1 }],
]);

export const TAG_BYTES = 16;
export const SAMPLE_BYTES = 16;

export function quicVersion(version: number): Version | undefined {
  return VERSIONS.get(version);
}

/** @param connection The id that the client gave the server in its first packet. */
export function initialKeys({ salt, prefix }: Version, connection: Buffer, side: 'client' | 'server'): InitialKeys {
  const initial = createHmac('sha256', Buffer.from(salt, 'hex')).update(connection).digest();
  const secret = expand(initial, `${side} in`, 32);
  return {
    key: expand(secret, `${prefix} key`, 16),
    iv: expand(secret, `${prefix} iv`, 12),
    header: expand(secret, `${prefix} hp`, 16),
  };
}

/** HKDF-Expand-Label (RFC 8446, 7.1) of at most one hash's length. */
function expand(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  return createHmac('sha256', secret)
    .update(Buffer.from([0, length, name.length]))
    .update(name)
    .update(Buffer.from([0, 1]))
    .digest()
    .subarray(0, length);
}

export function headerMask({ header }: InitialKeys, sample: Buffer): Buffer {
  const cipher = createCipheriv('aes-128-ecb', header, null);
  return cipher.update(sample);
}

/** @param sealed With its tag. @throws where the key is another. */
export function openPacket({ key, iv }: InitialKeys, number: number, header: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('aes-128-gcm', key, nonceOf(iv, number), { authTagLength: TAG_BYTES });
  decipher.setAAD(header);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const opened = decipher.update(sealed.subarray(0, -TAG_BYTES));
  decipher.final();
  return opened;
}

export function nonceOf(iv: Buffer, number: number): Buffer {
  const nonce = Buffer.from(iv);
  nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ number) >>> 0, 8);
  return nonce;
}
