// sdk.js: the side of AWS's SDK: decide which keys to use, get them, and call
// SQS with them, as a program would that leaves everything to the SDK.
//
// All connections that the SDK makes go to the test's own servers, whatever host
// they are meant for, and without TLS.

'use strict';

const http = require('http');
const https = require('https');

let port = 0;

// Must come before the SDK, which keeps references.
for (const [scheme, module] of [['http', http], ['https', https]]) {
	const real = http.request;
	module.request = (options, callback) => {
		if (options instanceof URL || typeof options === 'string')
			throw new Error('a way to make requests that is not redirected');
		const host = options.host || options.hostname;
		const name = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
		const standard = scheme === 'https' ? 443 : 80;
		const headers = { 'x-test-scheme': scheme, ...options.headers };
		if (!Object.keys(headers).some((header) => header.toLowerCase() === 'host'))
			headers.host = options.port && options.port !== standard ? `${name}:${options.port}` : name;
		return real({
			...options, protocol: 'http:', host: '127.0.0.1', hostname: '127.0.0.1', port, headers, agent: undefined
		}, callback);
	};
}

const { SQSClient, ListQueuesCommand } = require('@aws-sdk/client-sqs');
const providers = require('@aws-sdk/credential-providers');

// options of ours that stand for a provider
const sources = {
	static: (options) => ({
		accessKeyId: options.access_key_id, secretAccessKey: options.secret_access_key, sessionToken: options.session_token
	}),
	environment: () => providers.fromEnv(),
	web_identity: () => providers.fromTokenFile(),
	profile: ({ profile }) => providers.fromIni({ profile }),
	container: () => providers.fromContainerMetadata(),
	instance_metadata: () => providers.fromInstanceMetadata()
};

function configuration(options) {
	const config = { maxAttempts: 1 };
	if (options.profile)
		config.profile = options.profile;
	if (options.region)
		config.region = options.region;
	if (options.endpoint)
		config.endpoint = options.endpoint;
	if (options.use_fips !== undefined)
		config.useFipsEndpoint = options.use_fips === 1;
	if (options.use_dualstack !== undefined)
		config.useDualstackEndpoint = options.use_dualstack === 1;
	if (options.source)
		config.credentials = sources[options.source](options);
	if (options.role_arn)
		config.credentials = providers.fromTemporaryCredentials({
			masterCredentials: config.credentials,
			params: {
				RoleArn: options.role_arn, ExternalId: options.external_id,
				RoleSessionName: options.role_session_name, DurationSeconds: options.duration_seconds
			}
		});
	return config;
}

// Returns {} if SQS answered, or {error: TEXT}.  env is all there is.
async function run(env, options) {
	const before = { ...process.env };
	for (const name of Object.keys(process.env))
		delete process.env[name];
	Object.assign(process.env, env);
	// what it warns of is among the differences
	const warn = console.warn;
	console.warn = () => {};
	try {
		const client = new SQSClient(configuration(options));
		await client.send(new ListQueuesCommand({}));
		return {};
	} catch (error) {
		return { error: `${error.name}: ${error.message}` };
	} finally {
		console.warn = warn;
		for (const name of Object.keys(process.env))
			delete process.env[name];
		Object.assign(process.env, before);
	}
}

module.exports = { run, setPort: (value) => { port = value; } };
