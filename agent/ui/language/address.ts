/**
 * Addresses and networks, compared as Elasticsearch does: an IPv4 address is the IPv6 address that stands for it
 * (`::ffff:…`). For the browser, too: nothing of Node.
 */

const BITS = 128;
const IPV4_BITS = 32;
const MAPPED = 0xffffn << 32n;

export interface Network {
  /** As it was written, or completed: an address, or an address with the length of its prefix. */
  text: string;
  /** Both inclusive. */
  first: bigint;
  last: bigint;
}

/** @returns undefined when it is no address. */
export function addressNumber(text: string): bigint | undefined {
  return ipv4(text) ?? ipv6(text);
}

/** All that are an address. */
export const ANY_ADDRESS: Network = { text: '::/0', first: 0n, last: (1n << 128n) - 1n };

/** An address, or one with a prefix: `10.0.0.1`, `10.65.0.0/16`, `2001:db8::/32`; also `10.65.*` and `10.65.`. */
export function parseNetwork(text: string): Network | undefined {
  const [, open, opened] = /^(?:((?:\d{1,3}\.){1,3})\*|((?:\d{1,3}\.){2,3}))$/.exec(text) ?? [];
  const start = open ?? opened;
  if (start !== undefined) {
    const bytes = start.split('.').slice(0, -1);
    return parseNetwork(`${[...bytes, '0', '0', '0'].slice(0, 4).join('.')}/${bytes.length * 8}`);
  }
  const [, address = '', prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const number = addressNumber(address);
  if (number === undefined) return undefined;
  const bits = address.includes(':') ? BITS : IPV4_BITS;
  const length = prefix === undefined ? bits : Number(prefix);
  if (length > bits) return undefined;
  const rest = (1n << BigInt(bits - length)) - 1n;
  const first = number - (number & rest);
  return { text, first, last: first + rest };
}

function ipv4(text: string): bigint | undefined {
  const bytes = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  // 010 is eight to some, and ten to others.
  if (bytes === undefined || bytes.some((byte) => Number(byte) > 255 || /^0\d/.test(byte))) return undefined;
  return MAPPED + bytes.reduce((sum, byte) => (sum << 8n) + BigInt(byte), 0n);
}

function ipv6(text: string): bigint | undefined {
  const last = /(?<=:)[\d.]+$/.exec(text)?.[0] ?? '';
  const end = last.includes('.') ? ipv4(last) : undefined;
  if (last.includes('.') && end === undefined) return undefined;
  const hex =
    end === undefined
      ? text
      : `${text.slice(0, -last.length)}${((end >> 16n) & 0xffffn).toString(16)}:${(end & 0xffffn).toString(16)}`;
  const halves = hex.split('::');
  if (!/^[\da-f:]+$/i.test(hex) || halves.length > 2) return undefined;
  const [head, tail] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const missing = 8 - (head?.length ?? 0) - (tail?.length ?? 0);
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...(head ?? []), ...Array.from({ length: missing }, () => '0'), ...(tail ?? [])];
  if (!groups.every((group) => /^[\da-f]{1,4}$/i.test(group))) return undefined;
  return groups.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n);
}
