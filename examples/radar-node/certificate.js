// A key and a certificate for one start of the process: Node makes keys, but no
// certificates, and no other program may be needed for that.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

function der(tag, ...parts) {
  const body = Buffer.concat(parts)
  const length = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}

const sequence = (...parts) => der(0x30, ...parts)
const text = (tag, s) => der(tag, Buffer.from(s))

function oid(dotted) {
  const [a, b, ...rest] = dotted.split('.').map(Number)
  const bytes = [a * 40 + b]
  for (let n of rest) {
    const part = [n & 127]
    while ((n = Math.floor(n / 128)) > 0) part.unshift(128 | (n & 127))
    bytes.push(...part)
  }
  return der(0x06, Buffer.from(bytes))
}

const extension = (id, critical, value) => sequence(oid(id), ...(critical ? [der(0x01, Buffer.from([255]))] : []), der(0x04, value))

// certificate returns a self-signed one for "localhost", as DER and PEM, and its key.
export function certificate() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(oid('1.2.840.10045.4.3.2')) // ECDSA with SHA-256
  const name = sequence(der(0x31, sequence(oid('2.5.4.3'), text(0x0c, 'localhost'))))
  const time = (ms) => text(0x18, new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, ''))
  const serial = randomBytes(16)
  serial[0] = (serial[0] & 0x7f) | 1 // positive, and not padded
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(time(Date.now() - 60_000), time(Date.now() + 10 * 365 * 86_400_000)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(
      extension('2.5.29.19', true, sequence(der(0x01, Buffer.from([255])))), // an authority, of itself
      extension('2.5.29.15', true, der(0x03, Buffer.from([2, 0xa4]))), // signs, agrees on keys, certifies
      extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))), // server, client
      extension('2.5.29.17', false, sequence(text(0x82, 'localhost'))))))
  const whole = sequence(body, algorithm, der(0x03, Buffer.from([0]), sign('sha256', body, privateKey)))
  const pem = `-----BEGIN CERTIFICATE-----\n${whole.toString('base64').match(/.{1,64}/g).join('\n')}\n-----END CERTIFICATE-----\n`
  return { der: whole, pem, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) }
}
