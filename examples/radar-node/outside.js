// The way out. Within the hub's sandbox a connector has no network: the hub makes each connection,
// under the endpoint's address policy, and relays it to a socket in the connector's folder.
import { lookup } from 'node:dns/promises'
import { unlink } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import tls from 'node:tls'

const MAX_BODY = 8 << 20

export class Outside {
  constructor() {
    this.asked = new Map()
    this.number = 0
    const fd = process.env.HOOKYARD_DIAL_FD
    if (!fd) return
    this.hub = new net.Socket({ fd: Number(fd), readable: true, writable: true })
    this.hub.on('error', () => {}).unref()
    createInterface({ input: this.hub }).on('line', (line) => {
      const answer = JSON.parse(line)
      this.asked.get(answer.id)?.(answer)
      this.asked.delete(answer.id)
    })
  }

  // connect makes a connection to "host:port" for an endpoint.
  connect(endpoint, address, signal) {
    if (!this.hub) return direct(endpoint, address, signal)
    const id = ++this.number
    const name = `c${process.pid}-${id}.sock`
    const path = join(process.env.PLUGIN_UNIX_SOCKET_DIR || process.cwd(), name)
    return new Promise((resolve, reject) => {
      const fail = (why) => {
        door.close()
        this.asked.delete(id)
        reject(why)
      }
      const door = net.createServer((socket) => {
        door.close()
        // The hub says first which connection this is, and then it is the far end. That
        // says nothing before it was asked.
        const first = (part) => {
          if (!part.includes(10)) return
          socket.off('data', first)
          resolve(socket)
        }
        socket.on('data', first).on('error', fail)
      })
      door.on('error', fail).listen(path, () => this.hub.write(JSON.stringify({ id, endpoint: endpoint.ref, address, to: name }) + '\n'))
      door.on('close', () => unlink(path, () => {}))
      this.asked.set(id, (answer) => {
        if (!answer.connected) {
          fail(answer.reason
            ? Object.assign(new Error(`the address policy refuses ${answer.target}: ${answer.reason} (setting: ${answer.setting})`), { outcome: 'PERMANENT', fault: 'POLICY' })
            : new Error(answer.error))
        }
      })
      signal?.addEventListener('abort', () => fail(signal.reason), { once: true })
    })
  }

  // request makes one HTTP request below the endpoint's address, and follows nothing.
  async request(endpoint, path, { method = 'GET', headers = {}, body, signal } = {}) {
    let url
    try {
      url = new URL(endpoint.url.replace(/\/$/, '') + path)
    } catch {
      throw Object.assign(new Error('the address of the endpoint is not one'), { outcome: 'PERMANENT', fault: 'SETTINGS' })
    }
    signal?.throwIfAborted()
    const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
    let socket = await this.connect(endpoint, `${url.hostname}:${port}`, signal)
    if (url.protocol === 'https:') socket = tls.connect({ socket, servername: url.hostname })
    return new Promise((resolve, reject) => {
      const stop = () => { socket.destroy(); reject(signal.reason) }
      signal?.addEventListener('abort', stop, { once: true })
      const fail = (e) => { socket.destroy(); reject(e) }
      const request = http.request({ createConnection: () => socket, method, path: url.pathname + url.search, headers: { host: url.host, ...headers, connection: 'close' } })
      socket.on('error', fail)
      request.on('error', fail).on('response', (response) => {
        const parts = []
        let size = 0
        response.on('data', (part) => ((size += part.length) > MAX_BODY ? fail(new Error('the answer is too long')) : parts.push(part)))
          .on('error', fail).on('end', () => resolve({ status: response.statusCode, headers: response.rawHeaders, body: Buffer.concat(parts) }))
      }).end(body)
    })
  }
}

// direct is for a hub that keeps no connector from the network: then the policy is the
// connector's to keep. Public addresses are open, all others only as far as the operator
// has opened them.
async function direct(endpoint, address, signal) {
  const [, host, port] = address.match(/^\[?(.*?)\]?:(\d+)$/)
  const { address: ip, family } = await lookup(host)
  const kind = `ipv${family}`
  if (closed.check(ip, kind) && !blocks(endpoint.dial?.open ?? []).check(ip, kind)) {
    throw Object.assign(new Error(`the address policy refuses ${host}: ${ip} is not public`), { outcome: 'PERMANENT', fault: 'POLICY' })
  }
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: ip, port: Number(port), signal }, () => resolve(socket))
    socket.once('error', reject)
  })
}

function blocks(list) {
  const out = new net.BlockList()
  for (const cidr of list) {
    const [ip, bits] = cidr.split('/')
    out.addSubnet(ip, Number(bits), net.isIPv6(ip) ? 'ipv6' : 'ipv4')
  }
  return out
}

const closed = blocks(['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24',
  '192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/3', '::/127', '::ffff:0:0/96', '64:ff9b::/96', 'fc00::/7', 'fe80::/10', 'ff00::/8'])
