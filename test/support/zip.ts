/** Makes zip archives for tests, also such as no program makes. */
import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipEntry {
  /** As it is written: a folder's ends with a slash. */
  name: string;
  text: string | Buffer;
  stored?: boolean;
  /** Of Unix, with the type of the file. */
  mode?: number;
  /** General purpose bits: 1 is encrypted. */
  flags?: number;
  /** Another number than that of how it is packed. */
  method?: number;
  /** Another length than that of the text. */
  claims?: number;
}

/** Format: PKWARE's APPNOTE.TXT 6.3.10. */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const plain = Buffer.from(entry.text);
    const data = entry.stored === true ? plain : deflateRawSync(plain);
    const name = Buffer.from(entry.name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(entry.flags ?? 0, 2);
    common.writeUInt16LE(entry.method ?? (entry.stored === true ? 0 : 8), 4);
    common.writeUInt32LE(crc32(plain), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(entry.claims ?? plain.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\u0003\u0004'), common, name, data]);
    const central = Buffer.alloc(14);
    central.writeUInt32LE(((entry.mode ?? 0o100_644) * 2 ** 16) >>> 0, 6);
    central.writeUInt32LE(offset, 10);
    const madeBy = Buffer.from([20, 3]);
    directory.push(Buffer.concat([Buffer.from('PK\u0001\u0002'), madeBy, common, central, name]));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\u0005\u0006', 0, 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}
