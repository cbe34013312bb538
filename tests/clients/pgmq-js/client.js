// npm's pgmq-js 1.3.1, unmodified: every call.

const assert = require('node:assert');
const { Pgmq } = require('pgmq-js');

const url = new URL(process.env.PGB_DSN);
const where = {
  host: url.hostname,
  port: Number(url.port),
  database: url.pathname.slice(1),
  user: url.username,
  password: 'x',
  ssl: false,
};

// Notes which methods were called.
function noting(object, called) {
  return new Proxy(object, {
    get(target, name) {
      const found = target[name];
      if (typeof found !== 'function') return found;
      called.add(name);
      return found.bind(target);
    },
  });
}

function publicOf(object) {
  return Object.getOwnPropertyNames(Object.getPrototypeOf(object)).filter((n) => n !== 'constructor');
}

async function main() {
  const pgmq = await Pgmq.new(where);
  const called = new Set();
  const queue = noting(pgmq.queue, called);
  const msg = noting(pgmq.msg, called);
  const name = 'js_queue';

  await queue.create(name);
  await queue.createUnlogged(`${name}_quick`);
  const listed = await queue.list();
  assert.ok(listed.some((q) => q.name === name && !q.isUnlogged && !q.isPartitioned));
  assert.ok(listed.some((q) => q.name === `${name}_quick` && q.isUnlogged));
  await queue.drop(`${name}_quick`);
  await queue.drop(`${name}_none`);

  const first = await msg.send(name, { n: 1 });
  await msg.send(name, { n: 2 }, 3600);
  const ids = await msg.sendBatch(name, [{ n: 3 }, { n: 4 }, { n: 5 }]);
  assert.strictEqual(ids.length, 3);
  const got = await msg.read(name, 30);
  assert.strictEqual(got.msgId, first);
  assert.strictEqual(got.readCount, 1);
  assert.deepStrictEqual(got.message, { n: 1 });
  assert.ok(got.vt > new Date() && got.enqueuedAt <= new Date());
  const batch = await msg.readBatch(name, 30, 10);
  assert.deepStrictEqual(batch.map((m) => m.msgId), ids);
  assert.strictEqual(await msg.read(name), undefined);
  // It names no types, and pgmq 1.13 has four functions of that name: it fails there, too.
  await assert.rejects(msg.setVt(name, first, 0), { code: '42725' });
  await pgmq.pool.query('SELECT pgmq.set_vt($1, $2::bigint, 0)', [name, first]);
  assert.strictEqual((await msg.pop(name)).msgId, first);
  assert.strictEqual(await msg.pop(name), undefined);
  assert.strictEqual(await msg.delete(name, ids[0]), true);
  assert.strictEqual(await msg.delete(name, ids[0]), false);
  assert.strictEqual(await msg.archive(name, ids[1]), true);
  assert.strictEqual(await msg.archive(name, ids[1]), false);
  assert.deepStrictEqual(await msg.archiveBatch(name, [ids[2], 999999]), [ids[2]]);
  const more = await msg.sendBatch(name, [{}, {}]);
  assert.deepStrictEqual(await msg.deleteBatch(name, [...more, 999999]), more);

  const measured = await queue.getMetrics(name);
  assert.strictEqual(measured.queueName, name);
  assert.strictEqual(measured.queueLength, 1);
  assert.strictEqual(measured.totalMessages, 7);
  assert.ok((await queue.getAllMetrics()).some((m) => m.queueName === name));
  await queue.purge(name);
  assert.strictEqual((await queue.getMetrics(name)).queueLength, 0);
  await queue.detachArchive(name);
  await queue.drop(name);
  await assert.rejects(msg.send(name, {}), { code: '42P01' });

  const left = [...publicOf(pgmq.queue), ...publicOf(pgmq.msg)].filter((n) => !called.has(n));
  assert.deepStrictEqual(left, [], `never called: ${left}`);
  await pgmq.close();
  console.log('pgmq-js: every call');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
