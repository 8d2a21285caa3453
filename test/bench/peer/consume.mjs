// What sqsbridge is measured against: the program that a careful user writes
// with the packages sqs-consumer and pg.  Each message is a call of the same
// SQL function, prepared, in a transaction of its own, on a pool of POOL
// connections; CONSUMERS consumers in this process receive and delete in
// batches of ten, because one consumer does not receive while it handles.
import { SQSClient } from "@aws-sdk/client-sqs";
import pg from "pg";
import { Consumer } from "sqs-consumer";

const { ENDPOINT, QUEUE, CONSUMERS, POOL } = process.env;

const pool = new pg.Pool({ max: Number(POOL), min: Number(POOL), idleTimeoutMillis: 0 });
const sqs = new SQSClient({
	endpoint: ENDPOINT,
	region: "us-east-1",
	credentials: { accessKeyId: "BENCHKEY", secretAccessKey: "benchsecret" },
});

// sqs_message, with what the handler can expect of it
const call = {
	name: "handle",
	text: `SELECT handle(ROW('${QUEUE}', $1, $2, '{}', $3, $4, NULL, NULL,
		NULL, NULL, NULL, $5)::sqs_message)`,
};

async function handle(message) {
	await pool.query({
		...call,
		values: [message.MessageId, message.Body, JSON.stringify(message.Attributes),
			message.Attributes.ApproximateReceiveCount, message.ReceiptHandle],
	});
	return message;
}

for (let i = 0; i < Number(CONSUMERS); i++) {
	const consumer = Consumer.create({
		sqs,
		queueUrl: `${ENDPOINT}/000000000000/${QUEUE}`,
		batchSize: 10,
		waitTimeSeconds: 20,
		messageSystemAttributeNames: ["All"],
		messageAttributeNames: ["All"],
		// what succeeded is returned, and deleted in one call
		handleMessageBatch: async (messages) => {
			const results = await Promise.allSettled(messages.map(handle));
			for (const result of results)
				if (result.status === "rejected") console.error(result.reason);
			return results.filter((r) => r.status === "fulfilled").map((r) => r.value);
		},
	});
	consumer.on("error", (error) => console.error(error));
	consumer.start();
}
