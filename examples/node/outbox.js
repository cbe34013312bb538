// The outbox and its worker in Node, with pg.
//
//   npm ci
//   PGB_DSN=postgresql://… node outbox.js
//
// Ends by itself when its messages are done; exits non-zero if something is wrong.

import pg from 'pg'

const QUEUE = 'example_node'

async function main() {
  const dsn = process.env.PGB_DSN || process.env.DATABASE_URL
  if (!dsn) throw new Error('set PGB_DSN to a database that has pg_broker')
  // One connection for the shop, one for the worker. A pool would do for the shop; a transaction
  // belongs on one client.
  const shop = await connect(dsn)
  const worker = await connect(dsn)
  try {
    await setUp(shop)
    // Both at once: the worker wakes at each commit of the shop.
    await Promise.all([takeOrders(shop), work(worker)])
    await check(shop)
    await cleanUp(shop)
  } finally {
    await shop.end()
    await worker.end()
  }
}

async function connect(dsn) {
  const db = new pg.Client({ connectionString: dsn })
  await db.connect()
  return db
}

async function setUp(db) {
  await cleanUp(db)
  await db.query('CREATE SCHEMA example_node')
  await db.query(
    'CREATE TABLE example_node.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text)')
  await db.query('CREATE TABLE example_node.shipments (order_id bigint PRIMARY KEY, worker text)')
  // JavaScript has no interval: give seconds to make_interval, or write one as a string. A message
  // that fails waits 0.3 s, then 1 s; the fifth failure moves it to example_node_dead, which is
  // made along with the queue.
  await db.query(
    `SELECT mq.create_queue($1, visibility => make_interval(secs => $2),
                            max_failures => $3, backoff => $4)`,
    [QUEUE, 30, 5, ['0.3 s', '1 s']])
}

async function takeOrders(db) {
  await orderSomething(db, 'tea')
  await orderSomething(db, 'honey', { headers: { fails: 1 } })
  await orderSomething(db, 'lemons', { delay: 0.5 })
  await orderSomething(db, 'a yacht', { cardIsGood: false })
}

// The outbox: the order and its event are one transaction. Both are there, or neither.
async function orderSomething(db, item, { headers, delay, cardIsGood = true } = {}) {
  await db.query('BEGIN')
  try {
    const sql = 'INSERT INTO example_node.orders (item) VALUES ($1) RETURNING id'
    const order = (await db.query(sql, [item])).rows[0].id
    // Parameters need no casts: no function of mq has a second one of the same name. undefined
    // is sent as NULL, and NULL is the default. (pg turns an object into JSON, but an array into
    // a PostgreSQL array: use JSON.stringify if the body is a list.)
    const sent = await db.query(
      'SELECT mq.send($1, $2, headers => $3, delay => make_interval(secs => $4)) AS id',
      [QUEUE, { order }, headers, delay])
    if (!cardIsGood) throw new CardDeclined(`the card for ${item} was declined`)
    await db.query('COMMIT')
    console.log(`order ${order} is committed, its event is message ${sent.rows[0].id}`)
  } catch (error) {
    await db.query('ROLLBACK')
    if (!(error instanceof CardDeclined)) throw error
    console.log(`${error.message}: order and event are rolled back`)
  }
}

class CardDeclined extends Error {}
class ShippingError extends Error {}

// The worker loop. A real one would have no end; this one stops after 2 idle seconds.
async function work(db) {
  for (;;) {
    // Up to 10 messages, each ours for 30 seconds (the queue's visibility). `body` and `headers`
    // come as objects; `id` and `receipt` are bigint, which pg gives as strings: just hand them
    // back as they are.
    const { rows } = await db.query('SELECT * FROM mq.read($1, qty => $2)', [QUEUE, 10])
    for (const message of rows) await handle(db, message)
    if (rows.length === 0) {
      // Sleeps until a message may be ready: at a sender's commit, or at the end of a delay or a
      // backoff. Not between BEGIN and COMMIT, where it is refused.
      const wait = await db.query('CALL mq.wait($1, make_interval(secs => $2))', [QUEUE, 2])
      if (!wait.rows[0].ready) return
    }
  }
}

async function handle(db, message) {
  const { id, receipt, body } = message
  await db.query('BEGIN')
  try {
    await ship(db, message)
    // The effect and the ack are one transaction: the order ships exactly once. The receipt names
    // this hand-out; had our lease ended and another worker got the message, this would be false:
    // then roll back, it is the other's.
    const { rows } = await db.query('SELECT mq.ack($1, $2, $3) AS ours', [QUEUE, id, receipt])
    await db.query(rows[0].ours ? 'COMMIT' : 'ROLLBACK')
    console.log(`order ${body.order} ${rows[0].ours ? 'is shipped' : 'has gone to another worker'}`)
  } catch (error) {
    await db.query('ROLLBACK')
    if (!(error instanceof ShippingError)) throw error
    // Failed: back to the queue, to be tried again after its backoff. The reason stays with the
    // message, as last_error.
    await db.query('SELECT mq.nack($1, $2, $3, reason => $4)', [QUEUE, id, receipt, error.message])
    console.log(`order ${body.order} failed, it will be tried again: ${error.message}`)
  }
}

async function ship(db, { body, headers, failures }) {
  if (failures < (headers?.fails ?? 0)) throw new ShippingError('no carrier answers')
  await db.query("INSERT INTO example_node.shipments VALUES ($1, 'node')", [body.order])
}

async function check(db) {
  const column = async (sql) => (await db.query({ text: sql, rowMode: 'array' })).rows.flat()
  const orders = await column('SELECT id FROM example_node.orders ORDER BY id')
  const shipped = await column('SELECT order_id FROM example_node.shipments ORDER BY order_id')
  const left = await column(
    'SELECT id FROM mq.example_node UNION ALL SELECT id FROM mq.example_node_dead')
  if (orders.length !== 3 || String(orders) !== String(shipped) || left.length > 0) {
    throw new Error(`wrong: orders ${orders}, shipped ${shipped}, messages left ${left}`)
  }
  console.log('every order is shipped, the queue is empty')
}

async function cleanUp(db) {
  await db.query('DROP SCHEMA IF EXISTS example_node CASCADE')
  // The dead-letter queue goes last: it cannot while a queue names it.
  for (const queue of [QUEUE, `${QUEUE}_dead`]) {
    await db.query('SELECT mq.drop_queue($1, if_exists => true)', [queue])
  }
}

await main()
