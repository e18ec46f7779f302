// The hub's protocol, from a connector's side: docs/plugin-protocol.md in JavaScript. What is
// particular to a connector is in connector.js.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'

import { certificate } from './certificate.js'
import { Outside } from './outside.js'

const here = dirname(fileURLToPath(import.meta.url))
const MAX_MESSAGE = 16 << 20
const MAX_TEXT = 4 << 10

// serve talks to the hub until the hub ends it, or ends.
export function serve(connector) {
  if (process.env.HOOKYARD_PLUGIN !== 'e7a1c9d45f0b4b0f9f6a9e0c2d8b7315') {
    console.error('This is a connector of Hookyard: the hub starts it.')
    process.exit(1)
  }
  if (!process.env.PLUGIN_PROTOCOL_VERSIONS?.split(',').includes('1')) {
    console.error('This connector speaks version 1 of the protocol, and this hub does not.')
    process.exit(1)
  }
  // The hub alone holds the other end: it closes when the hub is gone, however it went.
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {}) // the hub decides

  const options = { keepCase: true, longs: String, enums: String, bytes: Buffer, defaults: true, oneofs: true }
  const load = (file) => grpc.loadPackageDefinition(loader.loadSync(join(here, file), options))
  const server = new grpc.Server({ 'grpc.max_receive_message_length': MAX_MESSAGE, 'grpc.max_send_message_length': MAX_MESSAGE })
  server.addService(load('wire.proto').hookyard.plugins.wire.v1.Plugin.service, {
    describe: (_, answer) => answer(null, connector.describe()),
    session: (stream) => new Session(connector, stream),
  })
  server.addService(load('plugin.proto').plugin.GRPCController.service, {
    shutdown: (_, answer) => { answer(null, {}); setImmediate(() => process.exit(0)) },
  })
  server.addService(load('health.proto').grpc.health.v1.Health.service, { check: (_, answer) => answer(null, { status: 1 }) })

  // The hub gives its own certificate for this one process: nobody else may come in. Ours
  // goes back in the handshake line, and the hub speaks to nobody else.
  const own = certificate()
  const hub = process.env.PLUGIN_CLIENT_CERT
  const credentials = hub
    ? grpc.ServerCredentials.createSsl(Buffer.from(hub), [{ private_key: Buffer.from(own.key), cert_chain: Buffer.from(own.pem) }], true)
    : grpc.ServerCredentials.createInsecure()
  const dir = process.env.PLUGIN_UNIX_SOCKET_DIR || process.cwd()
  let path = join(dir, 'node.sock')
  for (let i = 1; existsSync(path); i++) path = join(dir, `node${i}.sock`)
  server.bindAsync(`unix:${path}`, credentials, (err) => {
    if (err) {
      console.error(err.message)
      process.exit(1)
    }
    const line = ['1', '1', 'unix', path, 'grpc', hub ? own.der.toString('base64').replace(/=+$/, '') : '']
    if (process.env.PLUGIN_MULTIPLEX_GRPC) line.push('false')
    process.stdout.write(line.join('|') + '\n')
  })
}

// Session is the one stream, for as long as the process lives.
class Session {
  constructor(connector, stream) {
    Object.assign(this, { connector, stream, endpoints: new Map(), running: new Map(), asked: new Map(), number: 0, waiting: [] })
    this.outside = new Outside()
    stream.on('data', (m) => this[m.message]?.(m[m.message])) // what is not known is ignored
    stream.on('end', () => stream.end())
    stream.on('error', () => {})
  }

  send(kind, value) { this.stream.write({ [kind]: value }) }

  endpoint(e) {
    const secrets = Object.fromEntries(Object.entries(e.secrets).map(([k, v]) => [k, v.toString()]))
    this.endpoints.set(e.ref, { ...e, settings: e.settings.length ? JSON.parse(e.settings) : {}, secrets })
  }

  // What came before has it in hand already.
  forget({ ref }) { this.endpoints.delete(ref) }

  ping({ number }) { this.send('pong', { number }) }

  cancel({ tokens }) { for (const t of tokens) this.running.get(t)?.abort(new Error('cancelled')) }

  told(t) {
    const q = this.asked.get(t.number)
    this.asked.delete(t.number)
    this.waiting.shift()?.()
    if (t.of === 'conflict') q?.reject(Object.assign(new Error('somebody else has changed it since it was read'), { conflict: true }))
    else if (t.of === 'limit' || t.of === 'error') q?.reject(new Error(t[t.of]))
    else q?.resolve(t[t.of])
  }

  deliver({ items }) {
    for (const item of items) {
      const started = process.hrtime.bigint()
      const at = BigInt(Date.now()) * 1_000_000n
      this.run(item.token, Number(item.timeout) / 1e6, (host) => this.connector.deliver(host, this.at(item.endpoint), item))
        .then((r) => ({ outcome: 'OUTCOME_DONE', ...r }), (e) => ({ ...failure(e), error: clip(e.message) }))
        .then(({ message, ...r }) => this.send('results', { results: [{ ...r, token: item.token, started: String(at), total: String(process.hrtime.bigint() - started) }] }))
    }
  }

  check({ token, endpoint }) {
    this.run(token, 0, (host) => this.connector.check(host, this.at(endpoint)))
      .then(() => '', (e) => clip(e.message) || 'it failed without a reason')
      .then((error) => this.send('check_done', { token, error }))
  }

  call(c) {
    const ability = this.connector[c.of]
    this.run(c.token, Number(c.timeout) / 1e6, async (host) => {
      if (!ability) throw new Error('this connector has no such ability')
      return ability.call(this.connector, c[c.of], host, (ref) => this.at(ref))
    }).then((a) => a, (e) => {
      if (e.refuse) return { refusal: { status: e.refuse, field: e.field ?? '', message: clip(e.message) } }
      if (e.skip) return { skip: clip(e.message) }
      if (e.outcome) return { failure: { ...failure(e), message: clip(e.message) } }
      return { broken: clip(e.message) || 'it failed without a reason' }
    }).then((a) => this.send('answer', { token: c.token, ...a }))
  }

  at(ref) {
    const e = this.endpoints.get(ref)
    if (!e) throw new Error(`endpoint "${ref}" is not known to this process`)
    return e
  }

  // run does something under a token, which the hub may cancel.
  async run(token, ms, what) {
    const stop = new AbortController()
    this.running.set(token, stop)
    const late = ms > 0 && setTimeout(() => stop.abort(new Error('the time limit has passed')), ms)
    try {
      return await what(this.host(stop.signal))
    } finally {
      clearTimeout(late)
      this.running.delete(token)
    }
  }

  // host is what the hub offers: a way out, a memory, and a log.
  host(signal) {
    return {
      signal,
      fetch: (endpoint, path, options) => this.outside.request(endpoint, path, { ...options, signal }),
      link: (e, kind, ours) => this.ask(e, { link: { kind, ours } }),
      setLink: (e, link) => this.ask(e, { set_link: link }),
      state: (e, key) => this.ask(e, { state: key }),
      setState: (e, state) => this.ask(e, { set_state: state }),
      log: (message, attributes = {}) => this.send('log', { level: 0, message: clip(message),
        attributes: Object.entries(attributes).map(([key, value]) => ({ key, value: clip(String(value)) })) }),
    }
  }

  // ask keeps to the 32 questions that may be unanswered.
  async ask(endpoint, question) {
    if (this.asked.size >= 32) await new Promise((free) => this.waiting.push(free))
    const number = String(++this.number)
    return new Promise((resolve, reject) => {
      this.asked.set(number, { resolve, reject })
      this.send('ask', { number, endpoint: endpoint.ref, ...question })
    })
  }
}

function failure(e) {
  return { outcome: `OUTCOME_${e.outcome ?? 'RETRY'}`, fault: `FAULT_${e.fault ?? 'CONNECTOR'}`, retry_after: String(Math.round((e.retryAfter ?? 0) * 1e9)) }
}

function clip(s) {
  s = String(s ?? '')
  return s.length > MAX_TEXT ? s.slice(0, MAX_TEXT) + '…' : s
}

// Headers are lines.
export const headerTo = (list) => Buffer.from(list.map(([name, value]) => `${name}: ${String(value).replaceAll('\n', ' ')}\n`).join(''))
export const headerFrom = (lines) => lines.toString('latin1').split('\n').filter(Boolean).map((line) => {
  const i = line.indexOf(': ')
  return [line.slice(0, i), line.slice(i + 2)]
})
