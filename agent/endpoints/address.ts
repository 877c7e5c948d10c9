/** An IP address as bytes (RFC 4291, 2.2). */
import { isIPv4, isIPv6 } from 'node:net';

/** The 4 or 16 bytes of an address; undefined: it is none, or has a zone. */
export function addressBytes(address: string): Buffer | undefined {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const hex = address.replace(/[\d.]+$/, (end) => {
    const bytes = isIPv4(end) ? Buffer.from(end.split('.').map(Number)) : undefined;
    return bytes === undefined ? end : `${bytes.readUInt16BE(0).toString(16)}:${bytes.readUInt16BE(2).toString(16)}`;
  });
  const [head = '', tail] = hex.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const [first, last] = [groups(head), groups(tail ?? '')];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  return Buffer.from([...first, ...zeros, ...last].map((group) => group.padStart(4, '0')).join(''), 'hex');
}
