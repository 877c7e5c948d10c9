/**
 * URLs without what may be a secret in them: a user and password, the values of a query, and parts of a path that look
 * like tokens, as oinkcodes and signed downloads have them. What names host, file and keys stays.
 */

const URL_IN_TEXT = /\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi;
const MASKED = '***';
/** Long, of letters, digits, `-` and `_` alone, and with a digit: no folder or file is called so. */
const TOKEN = /^(?=.*\d)[\w~%-]{12,}$/;

export function maskUrls(text: string): string {
  return text.replaceAll(URL_IN_TEXT, maskUrl);
}

function maskUrl(url: string): string {
  const [, scheme = '', rest = ''] = /^([^/]*\/\/)(.*)$/s.exec(url) ?? [];
  const [, place = '', query = ''] = /^([^?#]*)(.*)$/s.exec(rest) ?? [];
  const [host = '', ...steps] = place.split('/');
  const path = steps.map((step) => (TOKEN.test(step) ? MASKED : step));
  const values = query
    .split(/(?<=[?&#;])/)
    .map((part) => {
      const [, key = '', end = ''] = /^(?:([^=]*)=)?.*?([&#;?]?)$/s.exec(part) ?? [];
      const isMark = part === end;
      return isMark ? part : `${key === '' ? '' : `${key}=`}${MASKED}${end}`;
    })
    .join('');
  return `${scheme}${[host.replace(/^.*@/s, `${MASKED}@`), ...path].join('/')}${values}`;
}
