// What js-libp2p uses and Node.js has from 22 on.

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((one, other) => {
    resolve = one
    reject = other
  })
  return { promise, resolve, reject }
}
