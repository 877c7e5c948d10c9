/** The rule that fired: what it is, what it stands for, and its text. */
import type { ComponentChildren, JSX } from 'preact';
import type { AlertDetail, AlertRow } from '../../../agent/ui/api.ts';
import { TACTICS } from '../../../agent/events/tactics.ts';
import { marked, Text } from '../text.tsx';
import type { Location } from '../url.ts';
import { Value } from '../value.tsx';
import { Fact } from './fact.tsx';
import { text, texts, type Fields } from './fields.ts';

interface RuleProps {
  detail: AlertDetail;
  row: AlertRow;
  place: Location;
  event: Fields;
  record: Fields;
}

export function Rule({ detail: { rule }, row, place, event, record }: RuleProps): JSX.Element {
  const classtype = text(record['classtype']) || rule?.classtype;
  // The alert's own is the one that fired.
  const ruleText = text(record['rule']) || (rule?.text ?? '');
  return (
    <section>
      <h3>Rule</h3>
      <dl class="facts">
        <Fact name="Signature">
          <span class="mono">
            <Value place={place} field="signature" value={`${row.gid}:${row.sid}`}>
              <Text>{`${row.gid}:${row.sid}:${row.rev}`}</Text>
            </Value>
          </span>
        </Fact>
        {row.classification !== undefined && (
          <Fact name="Class">
            <Value place={place} field="class" value={row.classification} />
            {classtype !== undefined && classtype !== '' && (
              <span class="faint">
                {' '}
                <Text>{classtype}</Text>
              </span>
            )}
          </Fact>
        )}
        <Fact name="Severity">
          <Value place={place} field="severity" value={row.level}>
            {row.severity} of 100
          </Value>
          <span class="faint"> priority {typeof record['priority'] === 'number' ? record['priority'] : 'unknown'}</span>
        </Fact>
        <Mitre row={row} place={place} followsFromClass={record['mitre_source'] === 'class'} />
        <Facts name="CVE" of={row.cves}>
          {(cve) => (
            <Value place={place} field="cve" value={cve}>
              <Outside href={cveLink(cve)}>{cve}</Outside>
            </Value>
          )}
        </Facts>
        <Facts name="References" of={referencesOf(record)}>
          {(link) => <Outside href={safeLink(link)}>{link}</Outside>}
        </Facts>
        <Facts name="What to do" of={texts(event['mitigations'])}>
          {(mitigation) => <Text>{mitigation}</Text>}
        </Facts>
      </dl>
      <RuleText>{ruleText}</RuleText>
      {rule !== undefined && <Origin rule={rule} alertRevision={row.rev} />}
    </section>
  );
}

interface MitreProps {
  row: AlertRow;
  place: Location;
  followsFromClass: boolean;
}

function Mitre({ row: { tactic, techniques }, place, followsFromClass }: MitreProps): JSX.Element | null {
  if (tactic === undefined && techniques.length === 0) return null;
  return (
    <Fact name="MITRE">
      {tactic !== undefined && (
        <div>
          <Value place={place} field="tactic" value={tactic}>
            <Outside href={tacticLink(tactic)}>{`${TACTICS[tactic] ?? 'Tactic'} ${tactic}`}</Outside>
          </Value>
        </div>
      )}
      {techniques.map((technique) => (
        <div key={technique}>
          <Value place={place} field="technique" value={technique}>
            <Outside href={techniqueLink(technique)}>{technique}</Outside>
          </Value>
        </div>
      ))}
      {followsFromClass && <div class="faint">follows from the rule's class</div>}
    </Fact>
  );
}

interface FactsProps {
  name: string;
  of: readonly string[];
  children: (value: string) => ComponentChildren;
}

/** A fact of several values, or of none. */
function Facts({ name, of, children }: FactsProps): JSX.Element | null {
  if (of.length === 0) return null;
  return (
    <Fact name={name}>
      {of.map((value) => (
        <div key={value}>{children(value)}</div>
      ))}
    </Fact>
  );
}

function RuleText({ children }: { children: string }): JSX.Element {
  if (children === '') {
    return <p class="faint">The text of the rule is not in the alert, and in no rule set of this server.</p>;
  }
  return (
    <pre class="rule-text" tabIndex={0} aria-label="Text of the rule">
      {marked(pretty(children), true)}
    </pre>
  );
}

interface OriginProps {
  rule: NonNullable<AlertDetail['rule']>;
  alertRevision: string;
}

/** Where this server has the rule. */
function Origin({ rule: { sets, file, line, rev }, alertRevision }: OriginProps): JSX.Element {
  return (
    <p class="faint">
      {sets.length === 1 ? 'Set' : 'Sets'} <Text>{sets.join(', ')}</Text>, <Text>{`${file}:${line}`}</Text>
      {String(rev) !== alertRevision && ` · revision ${rev} here, ${alertRevision} in the alert`}
    </p>
  );
}

/** Links say what the references are, where there are any. */
function referencesOf(record: Fields): string[] {
  const links = texts(record['links']);
  return links.length > 0 ? links : texts(record['references']);
}

function tacticLink(tactic: string): string | undefined {
  return /^TA\d{4}$/.test(tactic) ? `https://attack.mitre.org/tactics/${tactic}/` : undefined;
}

function techniqueLink(technique: string): string | undefined {
  if (!/^T\d{4}(\.\d{3})?$/.test(technique)) return undefined;
  return `https://attack.mitre.org/techniques/${technique.replace('.', '/')}/`;
}

function cveLink(cve: string): string | undefined {
  return /^CVE-\d{4}-\d{4,}$/.test(cve) ? `https://nvd.nist.gov/vuln/detail/${cve}` : undefined;
}

/** Opens beside the page; a text without an address that is safe stays a text. */
function Outside({ href, children }: { href: string | undefined; children: string }): JSX.Element {
  if (href === undefined) return <Text>{children}</Text>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow" referrerpolicy="no-referrer">
      <Text>{children}</Text>
    </a>
  );
}

function safeLink(link: string): string | undefined {
  if (!/^https?:\/\//i.test(link) || !URL.canParse(link)) return undefined;
  const { protocol, username, password, href } = new URL(link);
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === '' ? href : undefined;
}

/** One option a line. */
function pretty(rule: string): string {
  const open = rule.indexOf('(');
  if (rule.includes('\n') || open === -1) return rule;
  const options = rule.slice(open + 1, rule.lastIndexOf(')'));
  const lines = options.match(/(?:"(?:[^"\\]|\\.)*"|\\.|[^;"\\])+;?/g) ?? [options];
  return `${rule.slice(0, open + 1)}\n${lines
    .map((line) => `  ${line.trim()}`)
    .filter((line) => line.trim() !== '')
    .join('\n')}\n)`;
}
