// servers.js: what AWS would be to both sides: instance metadata, container
// credentials, STS and SQS, on one port of this machine, with or without TLS.
//
// Each side runs as it would in the cloud, with AWS's own host names; whatever
// it sends arrives here, and is told apart by host and path.  What the servers
// saw is what is compared, so neither side is asked what it believes to have
// chosen.
//
// Keys tell where they come from: an id that begins with AKIA is of a user,
// every other id is temporary and valid only with its token; secret and token
// follow from the id.  The keys of an assumed role have the id
//     ROLE+EXTERNALID@SESSIONNAME*SECONDS~ID OF THE CALLER
// without what was not given: session names that a side made up, and the
// duration that STS gives by itself, are left out.
//
// Signatures are verified with AWS's code (@smithy/signature-v4).

'use strict';

const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const https = require('https');
const net = require('net');
const { Sha256 } = require('@aws-crypto/sha256-js');
const { SignatureV4 } = require('@smithy/signature-v4');

const digest = (text) => crypto.createHash('sha256').update(text).digest('base64');
const secretOf = (id) => digest('secret of ' + id).slice(0, 40);
const tokenOf = (id) => 'token/' + digest('token of ' + id) + digest('more of ' + id);

const HOUR = 3600 * 1000;
const isoTime = (ms) => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');

// The JSON that containers and instance metadata hand out, and processes print.
const metadataKeys = (id, expires = Date.now() + HOUR) => ({
	AccessKeyId: id, SecretAccessKey: secretOf(id), Token: tokenOf(id), Expiration: isoTime(expires)
});
const processKeys = (id, expires = Date.now() + HOUR) => ({
	Version: 1, AccessKeyId: id, SecretAccessKey: secretOf(id), SessionToken: tokenOf(id), Expiration: isoTime(expires)
});

const stsError = (code, type = 'Sender') =>
	`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error>
    <Type>${type}</Type>
    <Code>${code}</Code>
    <Message>This is what STS says about it.</Message>
  </Error>
  <RequestId>6c79d2c3-0000-0000-0000-000000000000</RequestId>
</ErrorResponse>`;

// Of a request with a signature: who signed for what, and why it is wrong, if
// it is.  Only the headers that were signed go into the signature again.
async function verify(request, body) {
	const parts = /^AWS4-HMAC-SHA256 Credential=(.+), ?SignedHeaders=([^,]+), ?Signature=[0-9a-f]{64}$/
		.exec(request.headers.authorization || '');
	const scope = parts && /^(.+)\/(\d{8})\/([^/]*)\/([^/]*)\/aws4_request$/.exec(parts[1]);
	if (!scope)
		return { wrong: 'no signature' };
	const [, id, day, region, service] = scope;
	const signer = { id, region, service };
	const signed = new Set(parts[2].split(';'));
	const date = request.headers['x-amz-date'] || '';
	const when = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
	if (!(Math.abs(when - Date.now()) < 5 * 60 * 1000) || day !== date.slice(0, 8))
		return { ...signer, wrong: 'the date' };
	for (const name of ['host', ...Object.keys(request.headers).filter((header) => header.startsWith('x-amz-'))])
		if (!signed.has(name))
			return { ...signer, wrong: `${name} is not signed` };

	const token = request.headers['x-amz-security-token'];
	if (token !== (id.startsWith('AKIA') ? undefined : tokenOf(id)))
		return { ...signer, wrong: 'the session token' };

	const headers = {};
	for (const name of signed)
		headers[name] = request.headers[name];
	const again = await new SignatureV4({
		credentials: { accessKeyId: id, secretAccessKey: secretOf(id), sessionToken: token },
		region, service, sha256: Sha256, applyChecksum: false
	}).sign({
		method: request.method, protocol: 'https:', hostname: request.headers.host,
		path: request.url, query: {}, headers, body
	}, { signingDate: new Date(when), signableHeaders: signed });
	if (again.headers.authorization.replace(/, /g, ',') !== request.headers.authorization.replace(/, /g, ','))
		return { ...signer, wrong: 'the signature' };
	return signer;
}

class Servers {
	// key and cert: files for TLS
	constructor(key, cert) {
		this.plain = http.createServer((request, response) => this.serve('http', request, response));
		this.tls = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) },
			(request, response) => this.serve('https', request, response));
		// a TLS handshake begins with 0x16
		this.port = net.createServer((socket) => {
			socket.on('error', () => {});
			socket.once('readable', () => {
				const first = socket.read(1);
				if (first === null)
					return;
				socket.unshift(first);
				(first[0] === 0x16 ? this.tls : this.plain).emit('connection', socket);
			});
		});
		this.verified = { sts: 0, sqs: 0 };
		this.reset({});
	}

	async start() {
		await new Promise((resolve) => this.port.listen(0, '127.0.0.1', resolve));
		return this.port.address().port;
	}

	// answers: {'METHOD PATH' or an action of STS: [status, body]}, instead of
	// what is usual; a status of 0 closes the connection, and -1 never answers
	reset(answers) {
		this.answers = answers;
		this.seen = { metadata: null, container: null, sts: null, sqs: null, log: [], wrong: [] };
	}

	serve(scheme, request, response) {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('error', () => {});
		request.on('end', async () => {
			const where = `${request.headers['x-test-scheme'] || scheme}://${request.headers.host}`;
			const seen = this.seen;
			try {
				const [status, body, type, headers] = await this.answer(request, where, Buffer.concat(chunks));
				seen.log.push(`${request.method} ${where}${request.url} ${status}`);
				if (status <= 0) {
					if (status === 0)
						response.destroy();
					return;
				}
				response.writeHead(status, {
					'Content-Type': type || 'text/plain', 'Content-Length': Buffer.byteLength(body), ...headers
				});
				response.end(body);
			} catch (error) {
				seen.wrong.push(`server: ${error.stack}`);
				response.destroy();
			}
		});
	}

	async answer(request, where, body) {
		const path = request.url.split('?')[0];
		const instead = this.answers[`${request.method} ${path}`];
		const isSqs = (request.headers['x-amz-target'] || '').startsWith('AmazonSQS.');

		if (path.startsWith('/latest/'))
			this.seen.metadata = this.seen.metadata || where;
		else if (request.method === 'GET')
			this.seen.container = this.seen.container || where + request.url;
		if (instead)
			return instead;
		if (path.startsWith('/latest/'))
			return this.metadata(request, path);
		if (request.method === 'GET')
			return this.container(request);
		return isSqs ? this.sqs(request, where, body) : this.sts(request, where, body);
	}

	// IMDSv2 and nothing else
	metadata(request, path) {
		if (request.method === 'PUT' && path === '/latest/api/token') {
			const ttl = Number(request.headers['x-aws-ec2-metadata-token-ttl-seconds']);
			return ttl >= 1 && ttl <= 21600 ? [200, 'session==', 'text/plain'] : [400, 'bad request'];
		}
		if (request.headers['x-aws-ec2-metadata-token'] !== 'session==')
			return [401, 'unauthorized'];
		switch (path) {
			case '/latest/meta-data/iam/security-credentials/': return [200, 'metadata-role'];
			case '/latest/meta-data/iam/security-credentials/metadata-role':
				return [200, JSON.stringify({
					Code: 'Success', Type: 'AWS-HMAC', LastUpdated: isoTime(Date.now()), ...metadataKeys('ASIAMETADATA')
				})];
			case '/latest/meta-data/placement/region': return [200, 'sa-east-1'];
		}
		return [404, 'not found'];
	}

	// The id tells which authorization came with it.
	container(request) {
		const authorization = request.headers.authorization;
		return [200, JSON.stringify({
			RoleArn: 'arn:aws:iam::111122223333:role/task',
			...metadataKeys('ASIACONTAINER' + (authorization ? `(${authorization})` : ''))
		}), 'application/json'];
	}

	async sts(request, where, body) {
		const form = new URLSearchParams(body.toString());
		const action = form.get('Action');
		const role = (form.get('RoleArn') || '').split('/').pop();
		const external = form.get('ExternalId');
		const session = form.get('RoleSessionName') || '';
		const seconds = form.get('DurationSeconds');
		let caller;

		this.seen.sts = this.seen.sts || { where, region: null };
		if (form.get('Version') !== '2011-06-15' || !/^[\w+=,.@-]{2,64}$/.test(session) ||
			!/^arn:aws[\w-]*:iam::\d{12}:role\/[\w+=,.@/-]+$/.test(form.get('RoleArn')) ||
			(external !== null && !/^[\w+=,.@:/-]{2,1224}$/.test(external)) ||
			(seconds !== null && !(Number(seconds) >= 900 && Number(seconds) <= 43200)))
			return [400, stsError('ValidationError'), 'text/xml'];
		if (action === 'AssumeRole') {
			const signer = await verify(request, body);
			if (signer.wrong || signer.service !== 'sts') {
				this.seen.wrong.push(`STS: ${signer.wrong || 'the service'}`);
				return [403, stsError('SignatureDoesNotMatch'), 'text/xml'];
			}
			this.verified.sts++;
			this.seen.sts.region = this.seen.sts.region || signer.region;
			caller = signer.id;
		} else if (action === 'AssumeRoleWithWebIdentity') {
			if (request.headers.authorization)
				this.seen.wrong.push('STS: a signature without need');
			caller = `web(${form.get('WebIdentityToken')})`;
			if (!/^web\(\S+\)$/.test(caller))
				return [400, stsError('InvalidIdentityToken'), 'text/xml'];
		} else
			return [400, stsError('InvalidAction'), 'text/xml'];
		if (this.answers[action])
			return this.answers[action];

		const id = role + (external ? '+' + external : '') +
			(/^(aws-sdk-js-|sqsbridge)/.test(session) ? '' : '@' + session) +
			(seconds && seconds !== '3600' ? '*' + seconds : '') + '~' + caller;
		return [200, `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <${action}Result>
    <AssumedRoleUser>
      <AssumedRoleId>AROAEXAMPLE:${session}</AssumedRoleId>
      <Arn>arn:aws:sts::111122223333:assumed-role/${role}/${session}</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>${id}</AccessKeyId>
      <SecretAccessKey>${secretOf(id)}</SecretAccessKey>
      <SessionToken>${tokenOf(id)}</SessionToken>
      <Expiration>${isoTime(Date.now() + HOUR)}</Expiration>
    </Credentials>
  </${action}Result>
  <ResponseMetadata><RequestId>c6104cbe-0000-0000-0000-000000000000</RequestId></ResponseMetadata>
</${action}Response>`, 'text/xml'];
	}

	async sqs(request, where, body) {
		const action = request.headers['x-amz-target'].split('.')[1];
		const signer = await verify(request, body);
		let reply = {};

		this.seen.sqs = this.seen.sqs ||
			{ where: where + request.url.replace(/\/$/, ''), id: signer.id, region: signer.region };
		if (signer.wrong || signer.service !== 'sqs') {
			this.seen.wrong.push(`SQS: ${signer.wrong || 'the service'}`);
			return [403, '{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"what SQS says"}',
				'application/x-amz-json-1.0', { 'x-amzn-query-error': 'InvalidSignatureException;Sender' }];
		}
		this.verified.sqs++;
		const input = JSON.parse(body.toString());
		if (action === 'GetQueueUrl')
			reply = { QueueUrl: `${where}/111122223333/${input.QueueName}` };
		else if (action === 'SendMessage')
			reply = {
				MessageId: crypto.randomUUID(),
				MD5OfMessageBody: crypto.createHash('md5').update(input.MessageBody).digest('hex')
			};
		return [200, JSON.stringify(reply), 'application/x-amz-json-1.0'];
	}
}

module.exports = { Servers, secretOf, tokenOf, metadataKeys, processKeys, stsError, isoTime, HOUR };
