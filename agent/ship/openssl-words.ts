/** What went wrong with TLS, without where in OpenSSL's source: `80DC…:error:0A00010B:SSL routines:…:wrong version number:…`. */
export function opensslWords(message: string): string {
  const reason = /^[0-9A-F]+:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/.exec(message)?.[1];
  if (reason === undefined) return message;
  return reason === 'wrong version number' ? 'it does not speak TLS' : reason;
}
