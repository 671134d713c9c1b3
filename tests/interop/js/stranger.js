// A stranger at a node's square, on js-libp2p: reads what to do as JSON from stdin, does it, and prints what came of it as JSON.
//
//   in    {address, kademlia, find, topics, ask: [[protocol, request in hex], …], meet: request in hex, refused: [protocol, …]}
//   out   {peer, identify, ping_ms, answers: [hex, …], found: [multiaddr, …], met: {peer: [multiaddr, …]}, heard: {topic: [{from, data}, …]}, refused: {protocol: why}}
//
// Nothing of the mesh's own code is in here: what the answers hold is looked at by who started it.

import './node20.js'

import { text } from 'node:stream/consumers'

import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { PeerRecord, RecordEnvelope } from '@libp2p/peer-record'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { lpStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const PATIENCE_MS = 20_000
const patience = () => AbortSignal.timeout(PATIENCE_MS)
const hex = (bytes) => Buffer.from(bytes.subarray()).toString('hex')

async function until (what, told) {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    const found = what()
    if (found) return found
    if (Date.now() > end) throw new Error(`it never came: ${told}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const asked = JSON.parse(await text(process.stdin))
const node = await createLibp2p({
  addresses: { listen: [] },
  transports: [tcp(), quic()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  services: {
    identify: identify(),
    ping: ping({ maxOutboundStreams: 4 }), // Kademlia pings, too
    gossip: gossipsub(),
    dht: kadDHT({ protocol: asked.kademlia, clientMode: true, peerInfoMapper: passthroughMapper })
  }
})

const heard = Object.fromEntries(asked.topics.map((topic) => [topic, []]))
node.services.gossip.addEventListener('message', ({ detail }) => {
  heard[detail.topic]?.push({ from: detail.from?.toString(), data: hex(detail.data) })
})
for (const topic of asked.topics) node.services.gossip.subscribe(topic)

const known = Promise.withResolvers()
node.addEventListener('peer:identify', ({ detail }) => known.resolve(detail))

const connection = await node.dial(multiaddr(asked.address), { signal: patience() })
const peer = connection.remotePeer
const identified = await known.promise
const out = { peer: peer.toString(), transport: connection.remoteAddr.toString() }
out.identify = {
  protocol_version: identified.protocolVersion,
  agent_version: identified.agentVersion,
  protocols: identified.protocols,
  addresses: identified.listenAddrs.map(String)
}
out.ping_ms = await node.services.ping.ping(peer, { signal: patience() })

async function ask (protocol, request) {
  const stream = await connection.newStream(protocol, { signal: patience() })
  const frames = lpStream(stream, { maxDataLength: 1 << 20 })
  await frames.write(Buffer.from(request, 'hex'), { signal: patience() })
  const answer = await frames.read({ signal: patience() })
  await stream.close()
  return Buffer.from(answer.subarray())
}

// The fields of a protobuf message that have this number and hold bytes.
function * parts (message, wanted) {
  let at = 0
  const varint = () => {
    for (let number = 0, scale = 1; ; scale *= 128) {
      const byte = message[at++]
      number += (byte & 127) * scale
      if (byte < 128) return number
    }
  }
  while (at < message.length) {
    const key = varint()
    const value = varint()
    if ((key & 7) !== 2) continue
    if (key >> 3 === wanted) yield message.subarray(at, at + value)
    at += value
  }
}

out.answers = []
for (const [protocol, request] of asked.ask) out.answers.push(hex(await ask(protocol, request)))

out.met = {}
for (const discovered of parts(await ask('/rendezvous/1.0.0', asked.meet), 6)) {
  for (const registration of parts(discovered, 1)) {
    for (const sealed of parts(registration, 2)) {
      const { payload } = await RecordEnvelope.openAndCertify(sealed, PeerRecord.DOMAIN)
      const said = PeerRecord.createFromProtobuf(payload)
      out.met[said.peerId.toString()] = said.multiaddrs.map(String)
    }
  }
}

await new Promise((resolve) => setTimeout(resolve, 1_000)) // who asked much waits until tokens have come back
out.refused = {}
for (const protocol of asked.refused) {
  try {
    const stream = await connection.newStream(protocol, { signal: patience() })
    stream.abort(new Error('it was taken'))
  } catch (error) {
    out.refused[protocol] = error.name
  }
}

if (asked.find) {
  await until(() => node.services.dht.routingTable.size > 0, 'the node in the routing table')
  const found = await node.peerRouting.findPeer(peerIdFromString(asked.find), { signal: patience() })
  out.found = found.multiaddrs.map(String)
}

for (const topic of asked.topics) await until(() => heard[topic].length > 0, `news on ${topic}`)
out.heard = heard

await node.stop()
console.log(JSON.stringify(out))
