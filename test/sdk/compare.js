// compare.js [WORD...]: what AWS's SDK for JavaScript and sqsbridge make of the
// same environment, files and servers.  Prints TAP.
//
// Both sides decide which keys to use, fetch them, and call SQS; what the servers
// saw then is compared:
//   keys           id of the access key
//   region         that the call was signed for
//   endpoint       of SQS
//   stsEndpoint, stsRegion     if a role was assumed
//   metadata       endpoint of instance metadata, if it was asked
//   container      URL of the container's credentials, if it was asked
//   error          what the error is about, if no call to SQS succeeded:
//                  "nothing" if nothing is configured, "something" if it does not
//                  say
// If a side has failed, or if the keys differ as they should, the rest is not
// compared.
//
// A case fails if a side does anything else than cases.js says, so it fails as
// well if a difference has disappeared.

'use strict';

const childProcess = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const { Servers } = require('./servers.js');
const sdk = require('./sdk.js');
const { usual, cases } = require('./cases.js');
const reasons = require('./reasons.js');

// What an error is about, by its text; the first that fits counts.
const errorsOfSdk = [
	[/^InvalidSignatureException:/, 'signature'],
	[/^CredentialsProviderError: Could not load credentials from any providers/, 'nothing'],
	[/This is what STS says|Invalid response from STS/, 'role'],
	[/Unable to find environment variable/, 'environment'],
	[/Web identity configuration/, 'web identity'],
	[/container metadata/, 'container'],
	[/Profile \S+ requires multi-factor|with profile=|using profile:/, 'profile'],
	[/Region is missing|Region not accepted/, 'region'],
	[/^EndpointError:/, 'endpoint'],
	[/^(Syntax|Type|Timeout)?Error:|ENOENT/, 'something']
];
const errorsOfOurs = [
	[/^GetQueueUrl: InvalidSignatureException:/, 'signature'],
	[/there are no AWS credentials/, 'nothing'],
	[/no region is (configured|given)|(AWS_REGION|region of profile .*) must/, 'region'],
	[/(AWS_USE_\w+_ENDPOINT|AWS_ENDPOINT_URL_SQS) must|a (FIPS|dual-stack) endpoint is wanted/, 'endpoint'],
	[/instance metadata at .*nothing else is configured/, 'instance metadata'],
	[/AssumeRoleWithWebIdentity of|AWS_WEB_IDENTITY_TOKEN_FILE/, 'web identity'],
	[/AssumeRole of/, 'role'],
	[/line \d+ of file|could not read file/, 'file'],
	[/^fetch: \w+: credential_process|has credential_process/, 'process'],
	[/profile "/, 'profile'],
	[/container credentials|AWS_CONTAINER_/, 'container'],
	[/instance metadata|AWS_EC2_METADATA/, 'instance metadata'],
	[/environment/, 'environment']
];

function blame(patterns, text) {
	const found = patterns.find(([pattern]) => pattern.test(text));
	return found ? found[1] : text;
}

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'sqsbridge-sdk.'));
const key = path.join(directory, 'key.pem');
const certificate = path.join(directory, 'certificate.pem');
const program = path.join(__dirname, 'identity');

// Makes the home directory of a case; returns its environment.
function prepare(one, number) {
	const home = path.join(directory, String(number));
	const expand = (text) => text.replaceAll('$DIR', home);
	const files = { ...one.files };
	const env = { HOME: home, PATH: '/usr/bin:/bin', AWS_CA_BUNDLE: certificate, ...usual, ...one.env };

	if (one.config !== undefined)
		files['.aws/config'] = one.config;
	if (one.credentials !== undefined)
		files['.aws/credentials'] = one.credentials;
	fs.mkdirSync(home);
	for (const [name, text] of Object.entries(files)) {
		fs.mkdirSync(path.dirname(path.join(home, name)), { recursive: true });
		fs.writeFileSync(path.join(home, name), expand(text));
	}
	for (const name of Object.keys(env)) {
		if (env[name] === null)
			delete env[name];
		else
			env[name] = expand(env[name]);
	}
	return env;
}

function runOurs(port, env, options) {
	const args = [String(port)];
	for (const [name, value] of Object.entries(options))
		if (value !== undefined)
			args.push(`${name}=${value}`);
	return new Promise((resolve) => {
		childProcess.execFile(program, args, { env, timeout: 30000 }, (error, stdout, stderr) => {
			try {
				if (error || stderr)
					throw new Error(`${error} ${stderr}`);
				const { doing, code, message } = JSON.parse(stdout);
				resolve(doing ? { error: `${doing}: ${code}: ${message}` } : {});
			} catch (problem) {
				resolve({ error: `identity: ${problem.message} ${stdout}` });
			}
		});
	});
}

// What a side has done.
function result(outcome, patterns, seen) {
	if (outcome.error)
		return { error: blame(patterns, outcome.error) };
	if (!seen.sqs)
		return { error: 'SQS was not called' };
	return {
		keys: seen.sqs.id, region: seen.sqs.region, endpoint: seen.sqs.where,
		stsEndpoint: seen.sts ? seen.sts.where : null, stsRegion: seen.sts ? seen.sts.region : null,
		metadata: seen.metadata, container: seen.container
	};
}

// What of a result is not as expected.
function unexpected(side, got, expected) {
	return Object.entries({ error: undefined, ...expected })
		.filter(([field, value]) => got[field] !== value)
		.map(([field, value]) => `${side}: ${field} is ${got[field]}, expected ${value}`);
}

function compare(one, theirs, ours) {
	const named = { ...one.both, ...one.sdk, ...one.ours };
	const problems = [
		...unexpected('SDK', theirs, { ...one.both, ...one.sdk }),
		...unexpected('ours', ours, { ...one.both, ...one.ours })
	];
	if (!theirs.error && !ours.error && theirs.keys === ours.keys)
		for (const field of Object.keys(ours))
			if (!(field in named) && theirs[field] !== ours[field])
				problems.push(`${field}: SDK ${theirs[field]}, ours ${ours[field]}`);
	if (one.why && !reasons[one.why])
		problems.push(`there is no reason ${one.why}`);
	if (Boolean(one.why) !== Boolean(one.sdk && one.ours) || (one.why && one.both))
		problems.push('sdk, ours and why go together, without both');
	return problems;
}

async function main() {
	const words = process.argv.slice(2);
	const chosen = cases.filter((one) => words.every((word) => `${one.group}: ${one.name}`.includes(word)));
	const made = childProcess.spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
		'-nodes', '-days', '2', '-subj', '/CN=test', '-keyout', key, '-out', certificate], { encoding: 'utf8' });
	if (made.status !== 0)
		throw new Error(`openssl: ${made.error || made.stderr}`);

	const servers = new Servers(key, certificate);
	const port = await servers.start();
	const signatures = { sts: 0, sqs: 0 };
	const used = new Set();
	let failed = 0;
	let number = 0;
	const report = (name, problems, notes = []) => {
		number++;
		failed += problems.length > 0;
		console.log(`${problems.length > 0 ? 'not ok' : 'ok'} ${number} - ${name}`);
		for (const line of [...problems, ...(problems.length > 0 || process.env.VERBOSE ? notes : [])])
			console.log('# ' + line.replace(/\n/g, '\n# '));
	};

	sdk.setPort(port);
	for (const one of chosen) {
		const options = one.options || {};
		const env = prepare(one, number);
		const notes = [];
		const run = async (side, patterns, call) => {
			servers.reset(one.answers || {});
			const start = Date.now();
			const outcome = await call();
			notes.push(`${side}: ${Date.now() - start} ms`);
			const seen = servers.seen;
			const got = result(outcome, patterns, seen);
			const wrong = seen.wrong.filter((text) => text !== one.wrong);
			notes.push(...seen.log.map((line) => `${side}: ${line}`));
			if (outcome.error)
				notes.push(`${side}: ${outcome.error}`);
			return [got, wrong.map((text) => `${side}: ${text}`)];
		};
		const [theirs, wrongOfTheirs] = await run('SDK', errorsOfSdk, () => sdk.run(env, options));
		const before = { ...servers.verified };
		const [ours, wrongOfOurs] = await run('ours', errorsOfOurs, () => runOurs(port, env, options));
		for (const service of Object.keys(signatures))
			signatures[service] += servers.verified[service] - before[service];
		const problems = [...compare(one, theirs, ours), ...wrongOfTheirs, ...wrongOfOurs];
		used.add(one.why);
		report(`${one.group}: ${one.name}${one.why ? ` (${one.why})` : ''}`, problems, notes);
	}

	if (words.length === 0) {
		report('every reason is needed', Object.keys(reasons).filter((why) => !used.has(why)));
		report(`${signatures.sqs} signatures of ours for SQS and ${signatures.sts} for STS are what AWS's code makes them`,
			signatures.sqs > 100 && signatures.sts > 40 ? [] : ['too few']);
	}
	console.log(`1..${number}`);
	return failed;
}

main().catch((error) => {
	console.log(`not ok - ${error.stack}`);
	return 1;
}).then((failed) => {
	fs.rmSync(directory, { recursive: true, force: true });
	process.exit(failed > 0 ? 1 : 0);
});
