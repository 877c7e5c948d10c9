/** Which library packets are captured by. */
import { messageOf } from '../files/errors.ts';
import { createNativeLibrary } from './native-library.ts';
import { createNodePcapLibrary } from './node-pcap-library.ts';
import type { LibraryChoice } from './protocol.ts';
import type { Library, LibraryOptions } from './ring.ts';

export interface Chosen {
  library: Library;
  /** Why it is not the one that `auto` takes first. */
  instead?: string;
}

/** @throws Error when the chosen one, or with `auto` none, can be loaded. */
export async function chooseLibrary(choice: LibraryChoice, options: LibraryOptions): Promise<Chosen> {
  if (choice === 'node-pcap') return { library: await createNodePcapLibrary(options) };
  try {
    return { library: createNativeLibrary(options) };
  } catch (error) {
    if (choice === 'native') throw error;
    const instead = messageOf(error);
    return await createNodePcapLibrary(options).then(
      (library) => ({ library, instead }),
      (other: unknown) => {
        const reason = messageOf(other);
        throw new Error(`${instead}; ${reason}`, { cause: error });
      },
    );
  }
}
