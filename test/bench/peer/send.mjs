// What the relay of the outbox is measured against: the loop that users write
// with the packages pg and @aws-sdk/client-sqs.  Each of LOOPS loops locks ten
// rows of a plain table, sends them in one request, deletes what SQS has
// confirmed, and commits.  Prints the seconds until the table was empty.
import { SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";
import pg from "pg";

const { ENDPOINT, QUEUE, LOOPS } = process.env;

const pool = new pg.Pool({ max: Number(LOOPS), min: Number(LOOPS), idleTimeoutMillis: 0 });
const sqs = new SQSClient({
	endpoint: ENDPOINT,
	region: "us-east-1",
	credentials: { accessKeyId: "BENCHKEY", secretAccessKey: "benchsecret" },
});
const take = {
	name: "take",
	text: "SELECT id, body FROM plain ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED",
};
const done = { name: "done", text: "DELETE FROM plain WHERE id = ANY($1)" };

async function loop(client) {
	for (;;) {
		await client.query("BEGIN");
		const { rows } = await client.query(take);
		if (rows.length > 0) {
			const reply = await sqs.send(new SendMessageBatchCommand({
				QueueUrl: `${ENDPOINT}/000000000000/${QUEUE}`,
				Entries: rows.map(({ id, body }) => ({ Id: id, MessageBody: body })),
			}));
			await client.query({ ...done, values: [(reply.Successful ?? []).map((entry) => entry.Id)] });
		}
		await client.query("COMMIT");
		if (rows.length === 0) break;
	}
	client.release();
}

const clients = await Promise.all(Array.from({ length: Number(LOOPS) }, () => pool.connect()));
const start = performance.now();
await Promise.all(clients.map(loop));
console.log((performance.now() - start) / 1000);
await pool.end();
