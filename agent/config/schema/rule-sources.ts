/** `ruleSources`: where rule sets come from by themselves. */
import * as z from 'zod';
import { about, bytes, millis, text } from '../leaves.ts';
import { ALWAYS, setName, httpUrl, caFile, isInClear, repeated } from './common.ts';

/** What stands for the secret in a source's URL. */
const SECRET_PLACE = '{secret}';

const sourceUrl = () =>
  z
    .string()
    .max(2048)
    .refine((value) => {
      const url = httpUrl.safeParse(value).success ? new URL(value) : undefined;
      return url !== undefined && url.username === '' && url.password === '';
    });

const ruleSource = z
  .strictObject({
    name: about(setName(), 'a name of a-z, 0-9 and "-"', 'What the source is called in logs, metrics and commands.'),
    set: about(
      setName().optional(),
      'a name of a rule set, other than custom',
      "The rule set that it becomes; by default of the source's name. ruleSets says whether it is loaded.",
    ),
    preset: about(
      z.enum(['snort3-community', 'snort3-registered', 'snort3-subscriber', 'et-open', 'et-pro']).optional(),
      'one of snort3-community, snort3-registered, snort3-subscriber, et-open, et-pro',
      'Where it is from, by name; or url, or file.',
    ),
    url: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      'Where it is from; `{secret}` stands for what secretFile has, `{version}` for that of the rules.',
    ),
    file: about(text().optional(), 'a path', 'The same on this machine.'),
    mirror: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      "A mirror of a preset's site: the address in place of its host, with the same paths below.",
    ),
    version: about(
      z
        .string()
        .regex(/^[A-Za-z0-9._-]{1,32}$/)
        .optional(),
      'a version, such as 7.0.3',
      "The version that the rules are made for, where the address has one; by default Suricata's, or one that the preset knows.",
    ),
    every: about(
      millis(60_000, 2_592_000_000).prefault('1d'),
      'a time from 1m to 30d, such as 6h',
      'How often run looks for a new version; up to a tenth later, so that nodes do not come all at once.',
    ),
    checksum: about(
      z.union([z.string().regex(/^(?:sha256:)?[0-9a-f]{64}$|^(?:md5:)?[0-9a-f]{32}$/i), sourceUrl()]).optional(),
      'sha256: and 64 hexadecimal digits, md5: and 32, or a URL',
      'What it must be, or where that is published; by default what lies beside it as .sha256 or .md5, if anything does.',
    ),
    secretFile: about(
      text().optional(),
      'a path',
      'File with the code or token that the source wants; read at each use.',
    ),
    secretHeader: about(
      z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .prefault('Authorization'),
      'the name of a header',
      'The header that has the secret where the URL has no place for it; Authorization has it as a bearer token.',
    ),
    proxy: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      'The proxy on the way there; by default that of the environment.',
    ),
    caFile,
    maxBytes: about(
      bytes('1KiB', '1GiB').prefault('64MiB'),
      'a size from 1KiB to 1GiB, such as 64MiB',
      'Most that is downloaded.',
    ),
    timeout: about(
      millis(1000, 3_600_000).prefault('5m'),
      'a time from 1s to 1h, such as 5m',
      'Most that the download may take.',
    ),
  })
  .superRefine((value, context) => {
    const wrong = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    const { preset, url, file, mirror, secretFile } = value;
    if ([preset, url, file].filter((place) => place !== undefined).length !== 1) {
      wrong('url', 'expected one of preset, url and file');
    }
    if ((value.set ?? value.name) === 'custom')
      wrong('set', 'custom is made of files of your own: expected another set');
    if (mirror !== undefined && preset === undefined) wrong('mirror', 'expected a preset with it');
    const needsSecret = preset !== undefined && /-(?:registered|subscriber|pro)$/.test(preset);
    if (secretFile === undefined && (needsSecret || url?.includes(SECRET_PLACE) === true)) {
      wrong('secretFile', 'expected a file with the secret that goes into the URL');
    }
    for (const key of ['url', 'mirror', 'checksum'] as const) {
      if (secretFile !== undefined && isInClear(value[key])) wrong(key, 'expected https: a secret goes there');
    }
  }, ALWAYS);

export const ruleSources = z
  .array(ruleSource)
  .max(64)
  .prefault([])
  .superRefine((entries, context) => {
    const names = new Map<string, number>();
    const sets = new Map<string, number>();
    for (const [index, entry] of entries.entries()) {
      if (typeof entry?.name !== 'string') continue;
      const { name, set = name } = entry;
      const sameName = names.get(name);
      const sameSet = sets.get(set);
      if (sameName !== undefined) repeated(context, index, 'name', ['ruleSources', sameName]);
      else if (sameSet !== undefined) {
        repeated(context, index, entry.set === undefined ? 'name' : 'set', ['ruleSources', sameSet], 'the set');
      }
      names.set(name, sameName ?? index);
      sets.set(set, sameSet ?? index);
    }
  }, ALWAYS);
