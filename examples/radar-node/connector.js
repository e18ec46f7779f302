// A connector to RADAR, a system that does not exist: it delivers events there, says
// whether an endpoint would work, reads what RADAR sends, and writes events as RADAR would.
import { headerTo } from './hookyard.js'

const settings = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  additionalProperties: false,
  required: ['token'],
  properties: {
    token: { type: 'string', title: 'Token', description: 'API token of RADAR.', writeOnly: true, minLength: 1 },
    board: { type: 'string', title: 'Board', description: 'Where new cases go.', default: 'inbox' },
  },
}

const signature = { header: 'X-Radar-Signature', prefix: 'sha256=', message: '{body}' }

export const connector = {
  describe: () => ({
    name: 'radar-node',
    title: 'RADAR',
    description: 'Opens cases in RADAR, and reads its alerts.',
    version: '0.1.0',
    abilities: ['FORMAT', 'RECEIVE', 'DELIVER', 'CHECK'],
    settings: Buffer.from(JSON.stringify(settings)),
    formats: [{ name: 'radar-node', event_types: ['finding.discovered'], signature }],
    receivers: [{ kind: 'radar-node', signature }],
  }),

  // deliver makes one attempt. What it returns is DONE; what it throws is a decision.
  async deliver(host, endpoint, item) {
    const event = JSON.parse(item.event)
    const finding = event.data?.finding
    if (!finding) throw decision('SKIPPED', 'UNSPECIFIED', 'RADAR takes findings only')
    const link = await host.link(endpoint, 'case', finding.id)
    if (link.theirs) return // it has a case
    const answer = await ask(host, endpoint, '/cases', { method: 'POST', body: JSON.stringify({ key: finding.id, title: finding.title, board: endpoint.settings.board }) })
    const id = JSON.parse(answer.body).id
    await host.setLink(endpoint, { ...link, theirs: String(id) }).catch((e) => {
      if (!e.conflict) throw e // else a repeat was quicker, with the same case
    })
    host.log('opened a case', { case: id, finding: finding.id })
    return { response: { status: answer.status, body: answer.body } }
  },

  async check(host, endpoint) {
    await ask(host, endpoint, '/me')
  },

  // Pure abilities: called by the name that they have on the wire.
  receive(inbound) {
    let alert
    try {
      alert = JSON.parse(inbound.body)
    } catch {
      throw Object.assign(new Error('the body is not JSON'), { refuse: 400 })
    }
    if (!alert?.id || typeof alert.title !== 'string') return { received: { note: 'it is no alert' } }
    const data = { finding: { key: String(alert.id), title: alert.title, severity: 'medium', status: 'open' } }
    return { received: { items: [{ type: 'finding.discovered', data: Buffer.from(JSON.stringify(data)), key: String(alert.id),
      fields: { app: String(alert.app ?? '') }, default_field: 'app' }] } }
  },

  render({ event }) {
    const { type, data } = JSON.parse(event)
    if (type !== 'finding.discovered' || !data?.finding) throw Object.assign(new Error('RADAR knows new findings only'), { skip: true })
    return { rendered: { header: headerTo([['Content-Type', 'application/json']]), body: Buffer.from(JSON.stringify({ id: data.finding.id, title: data.finding.title })) } }
  },
}

const decision = (outcome, fault, message) => Object.assign(new Error(message), { outcome, fault })

// ask makes one request to RADAR.
async function ask(host, endpoint, path, options = {}) {
  let answer
  try {
    answer = await host.fetch(endpoint, path, { ...options, headers: { authorization: `Bearer ${endpoint.secrets.token}`, 'content-type': 'application/json' } })
  } catch (e) {
    throw e.outcome ? e : decision('RETRY', 'TARGET', `RADAR does not answer: ${e.message}`)
  }
  if (answer.status === 401) throw decision('RETRY', 'SETTINGS', 'RADAR does not know the token; make a new one')
  if (answer.status === 422) throw decision('PERMANENT', 'TARGET', 'RADAR cannot take this')
  if (answer.status < 200 || answer.status > 299) throw decision('RETRY', 'TARGET', `RADAR answered ${answer.status}`)
  return answer
}
