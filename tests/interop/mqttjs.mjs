// MQTT.js against the broker at the URL that is given: node mqttjs.mjs URL PROTOCOL_VERSION [CA [USER PASSWORD]]
import { readFileSync } from 'node:fs'
import assert from 'node:assert/strict'
import mqtt from 'mqtt'

const [url, level, ca, username, password] = process.argv.slice(2)
const version = Number(level)
const base = {
  ca: ca && ca !== '-' ? readFileSync(ca) : undefined,
  username,
  password,
  protocolVersion: version,
  protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
  reconnectPeriod: 0,
  connectTimeout: 5000,
}
const LIMIT = 10_000

function within(what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting: ${what}`)), LIMIT)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A client whose messages are kept until somebody asks for them, from before its connection on.
async function open(options) {
  const client = mqtt.connect(url, { ...base, ...options })
  const inbox = []
  const waiting = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }
    const next = waiting.shift()
    if (next) next(message)
    else inbox.push(message)
  })
  client.next = (what) =>
    within(what, inbox.length ? Promise.resolve(inbox.shift()) : new Promise((resolve) => waiting.push(resolve)))
  client.quiet = async () => {
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.deepEqual(inbox, [])
  }
  const connack = await within(
    'connack',
    new Promise((resolve, reject) => {
      client.once('connect', resolve)
      client.once('error', reject)
      client.once('close', () => reject(new Error('closed before connack')))
    }),
  )
  client.sessionPresent = connack.sessionPresent
  return client
}

const persistent = (id) =>
  version === 5
    ? { clientId: id, clean: false, properties: { sessionExpiryInterval: 300 } }
    : { clientId: id, clean: false }

async function everyQos() {
  const publisher = await open({ clientId: 'publisher' })
  for (const subscribed of [0, 1, 2]) {
    const subscriber = await open({ clientId: `subscriber${subscribed}` })
    const [granted] = await subscriber.subscribeAsync('qos/#', { qos: subscribed })
    assert.equal(granted.qos, subscribed)
    for (const published of [0, 1, 2]) {
      await publisher.publishAsync(`qos/${published}`, `m${published}`, { qos: published })
      const message = await subscriber.next(`published ${published}, subscribed ${subscribed}`)
      assert.deepEqual(message, {
        topic: `qos/${published}`,
        payload: `m${published}`,
        qos: Math.min(published, subscribed),
        retain: false,
      })
    }
    await subscriber.quiet()
    await subscriber.endAsync()
  }
  await publisher.endAsync()
}

async function retained() {
  const publisher = await open({ clientId: 'publisher' })
  await publisher.publishAsync('kept', 'value', { qos: 1, retain: true })
  const later = await open({ clientId: 'later' })
  await later.subscribeAsync('kept', { qos: 2 })
  assert.deepEqual(await later.next('retained'), { topic: 'kept', payload: 'value', qos: 1, retain: true })
  await publisher.publishAsync('kept', '', { qos: 1, retain: true })
  assert.deepEqual(await later.next('the deletion'), { topic: 'kept', payload: '', qos: 1, retain: false })
  const latest = await open({ clientId: 'latest' })
  await latest.subscribeAsync('kept', { qos: 2 })
  await latest.quiet()
  await Promise.all([publisher, later, latest].map((c) => c.endAsync()))
}

async function whileAway() {
  const first = await open(persistent('keeper'))
  await first.subscribeAsync('away/#', { qos: 2 })
  await first.endAsync()
  const publisher = await open({ clientId: 'publisher' })
  for (let n = 0; n < 100; n++) {
    await publisher.publishAsync('away/x', `m${n}`, { qos: 1 + (n % 2) })
  }
  const again = await open(persistent('keeper'))
  // MQTT 3.1 has no flag for it.
  if (version > 3) assert.equal(again.sessionPresent, true)
  const seen = { 1: [], 2: [] }
  for (let n = 0; n < 100; n++) {
    const message = await again.next(`message ${n} sent while away`)
    seen[message.qos].push(Number(message.payload.slice(1)))
  }
  for (const qos of [1, 2]) {
    assert.deepEqual(seen[qos], Array.from({ length: 50 }, (_, n) => 2 * n + qos - 1))
  }
  await again.quiet()
  await again.endAsync()
  await (await open({ clientId: 'keeper', clean: true })).endAsync()
  await publisher.endAsync()
}

async function will() {
  const watcher = await open({ clientId: 'watcher' })
  await watcher.subscribeAsync('will', { qos: 2 })
  const dying = await open({ clientId: 'dying', will: { topic: 'will', payload: 'gone', qos: 1, retain: false } })
  dying.stream.destroy()
  assert.deepEqual(await watcher.next('the will'), { topic: 'will', payload: 'gone', qos: 1, retain: false })
  const leaving = await open({ clientId: 'leaving', will: { topic: 'will', payload: 'gone', qos: 1, retain: false } })
  await leaving.endAsync()
  await watcher.quiet()
  await watcher.endAsync()
}

async function large() {
  const client = await open({ clientId: 'large' })
  await client.subscribeAsync('large', { qos: 1 })
  const payload = 'x'.repeat(1_000_000)
  await client.publishAsync('large', payload, { qos: 1 })
  assert.equal((await client.next('a megabyte')).payload, payload)
  await client.endAsync()
}

async function takeover() {
  const first = await open({ clientId: 'taken' })
  const gone = new Promise((resolve) => first.once('close', resolve))
  const second = await open({ clientId: 'taken' })
  await within('the first connection to be closed', gone)
  await second.subscribeAsync('taken', { qos: 1 })
  await second.publishAsync('taken', 'over', { qos: 1 })
  assert.equal((await second.next('its own message')).payload, 'over')
  await second.endAsync()
}

async function wrongPassword() {
  if (!username) return
  const refused = mqtt.connect(url, { ...base, password: 'wrong' })
  const error = await within('the refusal', new Promise((resolve) => refused.once('error', resolve)))
  assert.match(error.message, /Connection refused/)
  await refused.endAsync(true)
}

for (const step of [everyQos, retained, whileAway, will, large, takeover, wrongPassword]) {
  await step()
  console.log(`${step.name}: ok`)
}
process.exit(0)
