// cases.js: what both sides are given, and what both should make of it.
//
// Every case has a home directory of its own, whose path is $DIR in the texts
// here.  A case has
//   env          variables, besides those of `usual`; null removes one of these
//   config, credentials      ~/.aws/config and ~/.aws/credentials
//   files        others: name below $DIR and text
//   options      options of the server; the SDK gets those of its own that mean
//                the same
//   answers      what the servers say instead of what is usual, by request or by
//                action of STS: [status, body]
// and what is expected (see compare.js for the fields):
//   both         of both sides; what is not named has to be the same, too
//   sdk, ours, why      where they differ, and the reason: a name in reasons.js
//
// The ids of keys tell where these come from; see servers.js.

'use strict';

const { secretOf, tokenOf, metadataKeys, processKeys, stsError, isoTime, HOUR } = require('./servers.js');

// An instance in AWS whose role may be used; the region is known.
const usual = { AWS_REGION: 'eu-west-1' };
const metadata = { keys: 'ASIAMETADATA' };
const nothing = { error: 'nothing' };

const user = (id) => ({ AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secretOf(id) });
const session = (id) => ({ ...user(id), AWS_SESSION_TOKEN: tokenOf(id) });

// the lines of a profile
const keys = (id) => `aws_access_key_id = ${id}\naws_secret_access_key = ${secretOf(id)}`;
const sessionKeys = (id) => `${keys(id)}\naws_session_token = ${tokenOf(id)}`;
const role = (name) => `role_arn = arn:aws:iam::111122223333:role/${name}`;
const profile = (name) => ({ AWS_PROFILE: name });

const base = `[base]\n${keys('AKIABASE')}`;
const roleArn = (name) => `arn:aws:iam::111122223333:role/${name}`;
const webIdentity = (name) => ({ AWS_WEB_IDENTITY_TOKEN_FILE: '$DIR/token', AWS_ROLE_ARN: roleArn(name) });
const token = { token: 'eyJhbGciOiJub25lIn0.e30.x' };
const fromToken = 'web(eyJhbGciOiJub25lIn0.e30.x)';

const fullUri = (uri = 'http://127.0.0.1/v2/credentials/1') => ({ AWS_CONTAINER_CREDENTIALS_FULL_URI: uri });
const noMetadata = { AWS_EC2_METADATA_DISABLED: 'true' };

const metadataKeysPath = 'GET /latest/meta-data/iam/security-credentials/metadata-role';
const metadataRolePath = 'GET /latest/meta-data/iam/security-credentials/';

const groups = {};

// ---- environment ----

groups.environment = [
	{ name: 'keys', env: user('AKIAENV'), both: { keys: 'AKIAENV' } },
	{ name: 'keys with a token', env: session('ASIAENV'), both: { keys: 'ASIAENV' } },
	{ name: 'an empty token is none', env: { ...user('AKIAENV'), AWS_SESSION_TOKEN: '' },
		both: { keys: 'AKIAENV' } },
	{ name: 'id without secret', env: { AWS_ACCESS_KEY_ID: 'AKIAENV' },
		sdk: metadata, ours: { error: 'environment' }, why: 'half_configured' },
	{ name: 'secret without id', env: { AWS_SECRET_ACCESS_KEY: secretOf('AKIAENV') },
		sdk: metadata, ours: { error: 'environment' }, why: 'half_configured' },
	{ name: 'empty variables are not set',
		env: { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_SESSION_TOKEN: '' },
		both: metadata },
	{ name: 'only a token', env: { AWS_SESSION_TOKEN: tokenOf('ASIAENV') }, both: metadata },
	{ name: 'the old name of the token', env: { ...user('AKIAENV'), AWS_SECURITY_TOKEN: tokenOf('ASIAENV') },
		both: { keys: 'AKIAENV' } },
	{ name: 'before the default profile', env: user('AKIAENV'), credentials: `[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIAENV' } },
	{ name: 'before a profile by name', env: { ...user('AKIAENV'), ...profile('prod') },
		credentials: `[prod]\n${keys('AKIAPROD')}`,
		sdk: { keys: 'AKIAPROD' }, ours: { keys: 'AKIAENV' }, why: 'environment_first' },
	{ name: 'before web identity', env: { ...user('AKIAENV'), ...webIdentity('deploy') }, files: token,
		both: { keys: 'AKIAENV' } },
	{ name: 'before the container', env: { ...user('AKIAENV'), ...fullUri() }, both: { keys: 'AKIAENV' } },
	{ name: 'keys that expire',
		env: { ...session('ASIAENV'), AWS_CREDENTIAL_EXPIRATION: isoTime(Date.now() + HOUR) },
		both: { keys: 'ASIAENV' } },
	{ name: 'keys that have expired',
		env: { ...session('ASIAENV'), AWS_CREDENTIAL_EXPIRATION: isoTime(Date.now() - HOUR) },
		sdk: { keys: 'ASIAENV' }, ours: { error: 'environment' }, why: 'expired_is_an_error' },
	{ name: 'a wrong secret', env: { AWS_ACCESS_KEY_ID: 'AKIAENV', AWS_SECRET_ACCESS_KEY: secretOf('AKIAOTHER') },
		wrong: 'SQS: the signature', both: { error: 'signature' } },
	{ name: 'by option', env: user('AKIAENV'), options: { source: 'environment' },
		credentials: `[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIAENV' } },
	{ name: 'by option, without keys', options: { source: 'environment' }, both: { error: 'environment' } }
];

// ---- profiles with keys ----

groups.profiles = [
	{ name: 'default in credentials', credentials: `[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'default in config', config: `[default]\n${keys('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'profile default in config', config: `[profile default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'default and profile default in config',
		config: `[default]\n${keys('AKIAPLAIN')}\n[profile default]\n${keys('AKIAPROFILE')}`,
		both: { keys: 'AKIAPROFILE' } },
	{ name: 'profile default and default in config',
		config: `[profile default]\n${keys('AKIAPROFILE')}\n[default]\n${keys('AKIAPLAIN')}`,
		both: { keys: 'AKIAPROFILE' } },
	{ name: 'with a token', credentials: `[default]\n${sessionKeys('ASIADEFAULT')}`,
		both: { keys: 'ASIADEFAULT' } },
	{ name: 'by name in credentials', env: profile('prod'),
		credentials: `[default]\n${keys('AKIADEFAULT')}\n[prod]\n${keys('AKIAPROD')}`, both: { keys: 'AKIAPROD' } },
	{ name: 'by name in config', env: profile('prod'), config: `[profile prod]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD' } },
	{ name: 'by option', options: { profile: 'prod' },
		credentials: `[default]\n${keys('AKIADEFAULT')}\n[prod]\n${keys('AKIAPROD')}`, both: { keys: 'AKIAPROD' } },
	{ name: 'by option before the variable', options: { profile: 'prod' }, env: profile('test'),
		credentials: `[test]\n${keys('AKIATEST')}\n[prod]\n${keys('AKIAPROD')}`, both: { keys: 'AKIAPROD' } },
	{ name: 'by option before keys of the environment', options: { profile: 'prod' }, env: user('AKIAENV'),
		credentials: `[prod]\n${keys('AKIAPROD')}`, both: { keys: 'AKIAPROD' } },
	{ name: 'by the old variable', env: { AWS_DEFAULT_PROFILE: 'prod' }, credentials: `[prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { keys: 'AKIAPROD' }, why: 'default_profile_variable' },
	{ name: 'by both variables', env: { AWS_PROFILE: 'prod', AWS_DEFAULT_PROFILE: 'test' },
		credentials: `[test]\n${keys('AKIATEST')}\n[prod]\n${keys('AKIAPROD')}`, both: { keys: 'AKIAPROD' } },
	{ name: 'an empty variable is not set', env: { AWS_PROFILE: '' },
		credentials: `[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'missing', env: profile('prod'), credentials: `[default]\n${keys('AKIADEFAULT')}`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'missing, by option', options: { profile: 'prod' }, credentials: `[default]\n${keys('AKIADEFAULT')}`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'without keys', env: profile('prod'), config: '[profile prod]\nregion = us-west-2',
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'default without keys', config: '[default]\nregion = us-west-2', both: metadata },
	{ name: 'id without secret', credentials: '[default]\naws_access_key_id = AKIADEFAULT',
		sdk: metadata, ours: { error: 'profile' }, why: 'half_configured' },
	{ name: 'no prefix in config', env: profile('prod'), config: `[prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'prefix in credentials', env: profile('prod'), credentials: `[profile prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'credentials before config', config: `[default]\n${keys('AKIACONFIG')}`,
		credentials: `[default]\n${keys('AKIACREDENTIALS')}`, both: { keys: 'AKIACREDENTIALS' } },
	{ name: 'id in one file, secret in the other',
		config: `[default]\naws_secret_access_key = ${secretOf('AKIADEFAULT')}`,
		credentials: '[default]\naws_access_key_id = AKIADEFAULT', both: { keys: 'AKIADEFAULT' } },
	{ name: 'files elsewhere',
		env: { AWS_CONFIG_FILE: '$DIR/other/config', AWS_SHARED_CREDENTIALS_FILE: '$DIR/other/credentials', ...profile('prod') },
		credentials: `[prod]\n${keys('AKIAHOME')}`,
		files: { 'other/config': '[profile prod]\nregion = us-west-2', 'other/credentials': `[prod]\n${keys('AKIAOTHER')}` },
		both: { keys: 'AKIAOTHER' } },
	{ name: 'files below the home directory', env: { AWS_SHARED_CREDENTIALS_FILE: '~/other/credentials' },
		files: { 'other/credentials': `[default]\n${keys('AKIAOTHER')}` }, both: { keys: 'AKIAOTHER' } },
	{ name: 'a file that is missing', env: { AWS_SHARED_CREDENTIALS_FILE: '$DIR/missing' },
		config: `[default]\n${keys('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'default by name, without keys', env: profile('default'), config: '[default]\nregion = us-west-2',
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'by option, the default profile', env: user('AKIAENV'), options: { source: 'profile' },
		credentials: `[default]\n${keys('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'by option, which there is not', options: { source: 'profile' }, both: { error: 'profile' } },
	{ name: 'an empty name of a file is not set', env: { AWS_SHARED_CREDENTIALS_FILE: '' },
		credentials: `[default]\n${keys('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'a file that cannot be read', env: { AWS_CONFIG_FILE: '$DIR' },
		credentials: `[default]\n${keys('AKIADEFAULT')}`,
		sdk: { keys: 'AKIADEFAULT' }, ours: { error: 'file' }, why: 'malformed_is_an_error' },
	{ name: 'keys before SSO', env: profile('app'),
		config: `[profile app]\n${keys('AKIAAPP')}\nsso_account_id = 111122223333\n` +
		'sso_role_name = r\nsso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1',
		both: { keys: 'AKIAAPP' } },
	{ name: 'login', env: profile('app'),
		config: '[profile app]\nlogin_session = arn:aws:iam::111122223333:user/joe',
		sdk: { error: 'something' }, ours: { error: 'profile' }, why: 'names_the_source' }
];

// ---- how the files are written ----

groups.syntax = [
	{ name: 'comments', credentials: `# one\n; two\n[default] # three\n# four\n${keys('AKIADEFAULT')}\n ; five`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'comments after values', config: `[default]\n${keys('AKIADEFAULT')}\nregion = us-west-2 # here\n`,
		env: { AWS_REGION: null }, both: { keys: 'AKIADEFAULT', region: 'us-west-2' } },
	{ name: 'semicolons after values', config: `[default]\n${keys('AKIADEFAULT')}\nregion = us-west-2 ; here\n`,
		env: { AWS_REGION: null }, both: { keys: 'AKIADEFAULT', region: 'us-west-2' } },
	{ name: 'a value with #', credentials: `[default]\n${keys('AKIA#DEFAULT')}`, both: { keys: 'AKIA#DEFAULT' } },
	{ name: 'no blanks', credentials: `[default]\n${keys('AKIADEFAULT').replace(/ /g, '')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'many blanks', credentials: `[default]  \n${keys('AKIADEFAULT').replace(/ /g, '\t  ')}   \n\n`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'lines that end as in Windows',
		credentials: `[default]\n${keys('AKIADEFAULT')}\n`.replace(/\n/g, '\r\n'),
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'blanks in brackets', credentials: `[  default  ]\n${keys('AKIADEFAULT')}`,
		sdk: metadata, ours: { keys: 'AKIADEFAULT' }, why: 'more_headings' },
	{ name: 'names with blanks', env: profile('my prod'), config: `[profile my prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { keys: 'AKIAPROD' }, why: 'more_headings' },
	{ name: 'names with blanks in quotes', env: profile('my prod'),
		config: `[profile "my prod"]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { keys: 'AKIAPROD' }, why: 'more_headings' },
	{ name: 'names with blanks in credentials', env: profile('my prod'),
		credentials: `[my prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { keys: 'AKIAPROD' }, why: 'more_headings' },
	{ name: 'names with signs', env: profile('a-b_c@d+e.f%g:h/i'),
		config: `[profile a-b_c@d+e.f%g:h/i]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD' } },
	{ name: 'names in quotes', env: profile('prod'), config: `[profile "prod"]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD' } },
	{ name: 'names in single quotes', env: profile('prod'), config: `[profile 'prod']\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD' } },
	{ name: 'two blanks after "profile"', env: profile('prod'), config: `[profile   prod]\n${keys('AKIAPROD')}`,
		sdk: metadata, ours: { keys: 'AKIAPROD' }, why: 'more_headings' },
	{ name: 'a tab after "profile"', env: profile('prod'), config: `[profile\tprod]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD' } },
	{ name: 'upper case keys',
		credentials: `[default]\n${keys('AKIADEFAULT').replace(/aws_\w+/g, (key) => key.toUpperCase())}`,
		sdk: metadata, ours: { keys: 'AKIADEFAULT' }, why: 'case_of_keys' },
	{ name: 'upper case names of profiles', env: profile('prod'),
		credentials: `[PROD]\n${keys('AKIAUPPER')}\n[prod]\n${keys('AKIALOWER')}`,
		both: { keys: 'AKIALOWER' } },
	{ name: 'a section twice', credentials: `[default]\n${keys('AKIAFIRST')}\n[default]\n${keys('AKIASECOND')}`,
		both: { keys: 'AKIASECOND' } },
	{ name: 'halves of a section', credentials: `[default]\naws_access_key_id = AKIADEFAULT\n[x]\na = b\n` +
		`[default]\naws_secret_access_key = ${secretOf('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'a key twice', credentials: `[default]\naws_access_key_id = AKIAFIRST\n${keys('AKIASECOND')}`,
		both: { keys: 'AKIASECOND' } },
	{ name: 'sub-keys', config: `[default]\ns3 =\n  aws_access_key_id = AKIASUB\n  max = 5\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'other sections',
		config: `[preview]\nx = y\n[sso-session s]\nsso_region = us-east-1\n[plugins]\na = b\n` +
		`[default]\n${keys('AKIADEFAULT')}`, both: { keys: 'AKIADEFAULT' } },
	{ name: 'an empty file', credentials: '', both: metadata },
	{ name: 'a line without =', credentials: `[default]\nwhat is this\n${keys('AKIADEFAULT')}`,
		sdk: { keys: 'AKIADEFAULT' }, ours: { error: 'file' }, why: 'malformed_is_an_error' },
	{ name: 'a section without ]', credentials: `[default\n${keys('AKIADEFAULT')}`,
		sdk: metadata, ours: { error: 'file' }, why: 'malformed_is_an_error' },
	{ name: 'a key before all sections', credentials: `region = x\n[default]\n${keys('AKIADEFAULT')}`,
		sdk: { keys: 'AKIADEFAULT' }, ours: { error: 'file' }, why: 'malformed_is_an_error' },
	{ name: 'an empty value', credentials: `[default]\n${keys('AKIADEFAULT')}\naws_session_token =`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'a byte order mark', credentials: `\ufeff[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'no newline at the end, a blank line between', credentials: `\n\n[default]\n\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'text after ]', credentials: `[default] x\n${keys('AKIADEFAULT')}`,
		sdk: metadata, ours: { error: 'file' }, why: 'malformed_is_an_error' },
	{ name: 'keys indented', credentials: `[default]\n  ${keys('AKIADEFAULT').replace('\n', '\n  ')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'a section indented', credentials: `  [default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'a value with = and +', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nexternal_id = a==b+c=`,
		both: { keys: 'deploy+a==b+c=~AKIABASE' } },
	{ name: 'a value in quotes', env: { AWS_REGION: null },
		config: `[default]\n${keys('AKIADEFAULT')}\nregion = "us-west-2"`,
		both: { error: 'region' } }
];

// ---- roles of profiles ----

// profiles r1 to rN: each assumes its role with that before it, the first with base
const roleChain = (length) => Array.from({ length }, (_, i) =>
	`[profile r${i + 1}]\n${role(`r${i + 1}`)}\nsource_profile = ${i > 0 ? `r${i}` : 'base'}\n`).join('');

groups.roles = [
	{ name: 'source_profile', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base`, both: { keys: 'deploy~AKIABASE' } },
	{ name: 'of the default profile', credentials: base,
		config: `[default]\n${role('deploy')}\nsource_profile = base`,
		both: { keys: 'deploy~AKIABASE' } },
	{ name: 'in credentials', env: profile('app'),
		credentials: `${base}\n[app]\n${role('deploy')}\nsource_profile = base`,
		both: { keys: 'deploy~AKIABASE' } },
	{ name: 'with temporary keys', env: profile('app'), credentials: `[base]\n${sessionKeys('ASIABASE')}`,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base`, both: { keys: 'deploy~ASIABASE' } },
	{ name: 'all companions', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nexternal_id = 4711=x/y\n` +
			'role_session_name = postgres@db1\nduration_seconds = 900',
		both: { keys: 'deploy+4711=x/y@postgres@db1*900~AKIABASE' } },
	{ name: 'a chain', env: profile('three'), credentials: base,
		config: `[profile one]\n${role('first')}\nsource_profile = base\n[profile two]\n${role('second')}\n` +
			`source_profile = one\n[profile three]\n${role('third')}\nsource_profile = two\nexternal_id = e3`,
		both: { keys: 'third+e3~second~first~AKIABASE' } },
	{ name: 'itself, with keys', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\nsource_profile = app\n${keys('AKIAAPP')}`,
		both: { keys: 'deploy~AKIAAPP' } },
	{ name: 'itself, without keys', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\nsource_profile = app`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'a circle', env: profile('one'),
		config: `[profile one]\n${role('first')}\nsource_profile = two\n[profile two]\n${role('second')}\nsource_profile = one`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'a circle with keys', env: profile('one'),
		config: `[profile one]\n${role('first')}\nsource_profile = two\n${keys('AKIAONE')}\n` +
			`[profile two]\n${role('second')}\nsource_profile = one`,
		sdk: { keys: 'first~second~AKIAONE' }, ours: { error: 'profile' }, why: 'circle' },
	{ name: 'keys of a later profile before its role', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = middle\n` +
			`[profile middle]\n${role('between')}\nsource_profile = base\n${keys('AKIAMIDDLE')}`,
		both: { keys: 'deploy~AKIAMIDDLE' } },
	{ name: 'role of the first profile before its keys', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\n${keys('AKIAAPP')}`,
		both: { keys: 'deploy~AKIABASE' } },
	{ name: 'source_profile is missing', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\nsource_profile = base`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'source_profile has no keys', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\n[profile base]\nregion = us-west-2`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'no source', env: profile('app'), config: `[profile app]\n${role('deploy')}`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'no source, but keys', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\n${keys('AKIAAPP')}`,
		sdk: { keys: 'AKIAAPP' }, ours: { error: 'profile' }, why: 'role_without_source' },
	{ name: 'two sources', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\ncredential_source = Environment`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'of the environment', env: { ...session('ASIAENV'), ...profile('app') },
		config: `[profile app]\n${role('deploy')}\ncredential_source = Environment`,
		sdk: { keys: 'deploy~ASIAENV' }, ours: { keys: 'ASIAENV' }, why: 'environment_first' },
	{ name: 'of the environment, by option', env: session('ASIAENV'), options: { profile: 'app' },
		config: `[profile app]\n${role('deploy')}\ncredential_source = Environment`,
		both: { keys: 'deploy~ASIAENV' } },
	{ name: 'of the environment, which has none', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\ncredential_source = Environment`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'of instance metadata', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\ncredential_source = Ec2InstanceMetadata`,
		both: { keys: 'deploy~ASIAMETADATA' } },
	{ name: 'of the container', env: { ...profile('app'), ...fullUri() },
		config: `[profile app]\n${role('deploy')}\ncredential_source = EcsContainer`,
		both: { keys: 'deploy~ASIACONTAINER' } },
	{ name: 'of the container, which there is not', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\ncredential_source = EcsContainer`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'of an unknown source', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\ncredential_source = Vault`,
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'credential_source at the end of a chain', env: profile('app'),
		config: `[profile app]\n${role('deploy')}\nsource_profile = box\n[profile box]\ncredential_source = Ec2InstanceMetadata`,
		both: { keys: 'deploy~ASIAMETADATA' } },
	{ name: 'with web identity', env: profile('app'), files: token,
		config: `[profile app]\n${role('deploy')}\nsource_profile = pod\n` +
			`[profile pod]\n${role('pod')}\nweb_identity_token_file = $DIR/token`,
		both: { keys: `deploy~pod~${fromToken}` } },
	{ name: 'with a process', env: profile('app'), options: { allow_process: 1 },
		files: { 'keys.json': JSON.stringify(processKeys('ASIAPROCESS')) },
		config: `[profile app]\n${role('deploy')}\nsource_profile = tool\n[profile tool]\ncredential_process = /bin/cat $DIR/keys.json`,
		both: { keys: 'deploy~ASIAPROCESS' } },
	{ name: 'with a second factor', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nmfa_serial = arn:aws:iam::111122223333:mfa/joe`,
		both: { error: 'profile' } },
	{ name: 'no source, but a process', env: profile('app'), options: { allow_process: 1 },
		files: { 'keys.json': JSON.stringify(processKeys('ASIAPROCESS')) },
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\ncredential_process = /bin/cat $DIR/keys.json`,
		sdk: { keys: 'ASIAPROCESS' }, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'not allowed', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base`,
		answers: { AssumeRole: [403, stsError('AccessDenied')] }, both: { error: 'role' } },
	{ name: 'by option, with the environment', env: user('AKIAENV'), options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV' } },
	{ name: 'by option, with all companions', env: user('AKIAENV'),
		options: { role_arn: roleArn('deploy'), external_id: 'e:1', role_session_name: 'db1', duration_seconds: 1200 },
		both: { keys: 'deploy+e:1@db1*1200~AKIAENV' } },
	{ name: 'by option, with instance metadata', options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~ASIAMETADATA' } },
	{ name: 'by option, on top of that of a profile', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base`, options: { role_arn: roleArn('more') },
		both: { keys: 'more~deploy~AKIABASE' } },
	{ name: 'by option, not allowed', env: user('AKIAENV'), options: { role_arn: roleArn('deploy') },
		answers: { AssumeRole: [403, stsError('AccessDenied')] }, both: { error: 'role' } },
	{ name: 'by option, refused for a wrong secret',
		env: { AWS_ACCESS_KEY_ID: 'AKIAENV', AWS_SECRET_ACCESS_KEY: secretOf('AKIAOTHER') },
		options: { role_arn: roleArn('deploy') }, wrong: 'STS: the signature', both: { error: 'role' } },
	{ name: 'STS says nothing useful', env: user('AKIAENV'), options: { role_arn: roleArn('deploy') },
		answers: { AssumeRole: [200, '<html>hello</html>'] }, both: { error: 'role' } },
	{ name: 'five', env: profile('r5'), credentials: base, config: roleChain(5),
		both: { keys: 'r5~r4~r3~r2~r1~AKIABASE' } },
	{ name: 'six', env: profile('r6'), credentials: base, config: roleChain(6),
		sdk: { keys: 'r6~r5~r4~r3~r2~r1~AKIABASE' }, ours: { error: 'profile' }, why: 'five_roles' },
	{ name: 'source_profile is default', env: profile('app'), credentials: `[default]\n${keys('AKIADEFAULT')}`,
		config: `[profile app]\n${role('deploy')}\nsource_profile = default`,
		both: { keys: 'deploy~AKIADEFAULT' } },
	{ name: 'a duration that STS refuses', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nduration_seconds = 60`,
		sdk: { error: 'role' }, ours: { error: 'profile' }, why: 'names_the_source' },
	{ name: 'a duration that is no number', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nduration_seconds = an hour`,
		sdk: { error: 'role' }, ours: { error: 'profile' }, why: 'names_the_source' },
	{ name: 'a session name that STS refuses', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nrole_session_name = a b`,
		both: { error: 'role' } },
	{ name: 'an external id that STS refuses', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nexternal_id = a b`,
		both: { error: 'role' } },
	{ name: 'no ARN', env: profile('app'), credentials: base,
		config: '[profile app]\nrole_arn = deploy\nsource_profile = base',
		sdk: { error: 'role' }, ours: { error: 'profile' }, why: 'names_the_source' },
	{ name: 'a role with a path', env: profile('app'), credentials: base,
		config: '[profile app]\nrole_arn = arn:aws:iam::111122223333:role/team/db/deploy\nsource_profile = base',
		both: { keys: 'deploy~AKIABASE' } },
	{ name: 'STS has an error of its own', env: user('AKIAENV'), options: { role_arn: roleArn('deploy') },
		answers: { AssumeRole: [500, stsError('InternalFailure', 'Receiver')] }, both: { error: 'role' } },
	{ name: 'STS does not answer', env: user('AKIAENV'), options: { role_arn: roleArn('deploy') },
		answers: { AssumeRole: [0, ''] },
		sdk: { error: 'something' }, ours: { error: 'role' }, why: 'names_the_source' }
];

// ---- web identity ----

groups['web identity'] = [
	{ name: 'IRSA', env: webIdentity('pod'), files: token, both: { keys: `pod~${fromToken}` } },
	{ name: 'with a session name', env: { ...webIdentity('pod'), AWS_ROLE_SESSION_NAME: 'db-0' }, files: token,
		both: { keys: `pod@db-0~${fromToken}` } },
	{ name: 'no role', env: { AWS_WEB_IDENTITY_TOKEN_FILE: '$DIR/token' }, files: token,
		sdk: metadata, ours: { error: 'web identity' }, why: 'half_configured' },
	{ name: 'a role, but no file', env: { AWS_ROLE_ARN: roleArn('pod') }, both: metadata },
	{ name: 'the file is missing', env: webIdentity('pod'),
		sdk: { error: 'something' }, ours: { error: 'web identity' }, why: 'names_the_source' },
	{ name: 'the token has expired', env: webIdentity('pod'), files: token,
		answers: { AssumeRoleWithWebIdentity: [400, stsError('ExpiredTokenException')] },
		sdk: { error: 'role' }, ours: { error: 'web identity' }, why: 'names_the_source' },
	{ name: 'before the default profile', env: webIdentity('pod'), files: token,
		credentials: `[default]\n${keys('AKIADEFAULT')}`,
		sdk: { keys: 'AKIADEFAULT' }, ours: { keys: `pod~${fromToken}` }, why: 'web_identity_first' },
	{ name: 'before a profile by name', env: { ...webIdentity('pod'), ...profile('prod') }, files: token,
		credentials: `[prod]\n${keys('AKIAPROD')}`,
		sdk: { keys: 'AKIAPROD' }, ours: { keys: `pod~${fromToken}` }, why: 'web_identity_first' },
	{ name: 'before the container', env: { ...webIdentity('pod'), ...fullUri() }, files: token,
		both: { keys: `pod~${fromToken}` } },
	{ name: 'of a profile', env: profile('app'), files: token,
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token\nrole_session_name = s1`,
		both: { keys: `pod@s1~${fromToken}` } },
	{ name: 'of the default profile', files: token,
		config: `[default]\n${role('pod')}\nweb_identity_token_file = $DIR/token`,
		both: { keys: `pod~${fromToken}` } },
	{ name: 'of a profile with keys', env: profile('app'), files: token,
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token\n${keys('AKIAAPP')}`,
		sdk: { keys: 'AKIAAPP' }, ours: { keys: `pod~${fromToken}` }, why: 'profile_web_identity_first' },
	{ name: 'of a profile without a role', env: profile('app'), files: token,
		config: '[profile app]\nweb_identity_token_file = $DIR/token',
		sdk: metadata, ours: { error: 'profile' }, why: 'no_next_source' },
	{ name: 'by option', env: webIdentity('pod'), files: token, credentials: `[default]\n${keys('AKIADEFAULT')}`,
		options: { source: 'web_identity' }, both: { keys: `pod~${fromToken}` } },
	{ name: 'a role by option on top', env: webIdentity('pod'), files: token,
		options: { role_arn: roleArn('deploy') },
		both: { keys: `deploy~pod~${fromToken}` } },
	{ name: 'a newline after the token', env: webIdentity('pod'), files: { token: token.token + '\n' },
		sdk: { error: 'role' }, ours: { keys: `pod~${fromToken}` }, why: 'newline_after_token' },
	{ name: 'an empty file', env: webIdentity('pod'), files: { token: '' },
		sdk: { error: 'role' }, ours: { error: 'web identity' }, why: 'names_the_source' },
	{ name: 'of a profile, with a duration', env: profile('app'), files: token,
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token\nduration_seconds = 1800`,
		sdk: { keys: `pod~${fromToken}` }, ours: { keys: `pod*1800~${fromToken}` },
		why: 'duration_of_web_identity' },
	{ name: 'of a profile, the name of the environment', env: { ...profile('app'), AWS_ROLE_SESSION_NAME: 'db-0' },
		files: token,
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token`,
		both: { keys: `pod@db-0~${fromToken}` } },
	{ name: 'of a profile, its own name', env: { ...profile('app'), AWS_ROLE_SESSION_NAME: 'db-0' }, files: token,
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token\nrole_session_name = s1`,
		both: { keys: `pod@s1~${fromToken}` } },
	{ name: 'of a profile, the file is missing', env: profile('app'),
		config: `[profile app]\n${role('pod')}\nweb_identity_token_file = $DIR/token`,
		sdk: { error: 'something' }, ours: { error: 'web identity' }, why: 'names_the_source' },
	{ name: 'by option, without variables', options: { source: 'web_identity' }, both: { error: 'web identity' } },
	{ name: 'not allowed', env: webIdentity('pod'), files: token,
		answers: { AssumeRoleWithWebIdentity: [403, stsError('AccessDenied')] },
		sdk: { error: 'role' }, ours: { error: 'web identity' }, why: 'names_the_source' }
];

// ---- processes ----

const inProcess = (command) => `[profile app]\ncredential_process = ${command}`;
const processCase = (name, text, rest) => ({
	name, env: profile('app'), options: { allow_process: 1 }, config: inProcess('/bin/cat "$DIR/the keys.json"'),
	files: { 'the keys.json': text }, ...rest
});

groups.process = [
	processCase('of a profile', JSON.stringify(processKeys('ASIAPROCESS')), { both: { keys: 'ASIAPROCESS' } }),
	processCase('of the default profile', JSON.stringify(processKeys('ASIAPROCESS')),
		{ env: {}, config: '[default]\ncredential_process = /bin/cat "$DIR/the keys.json"',
			both: { keys: 'ASIAPROCESS' } }),
	processCase('keys that do not expire',
		JSON.stringify({ Version: 1, AccessKeyId: 'AKIAPROCESS', SecretAccessKey: secretOf('AKIAPROCESS') }),
		{ both: { keys: 'AKIAPROCESS' } }),
	processCase('keys that have expired', JSON.stringify(processKeys('ASIAPROCESS', Date.now() - HOUR)),
		{ sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('another version', JSON.stringify({ ...processKeys('ASIAPROCESS'), Version: 2 }),
		{ sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('no secret', JSON.stringify({ Version: 1, AccessKeyId: 'AKIAPROCESS' }),
		{ sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('no JSON', 'password:', { sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('it fails', '', { config: inProcess('/bin/false'),
		sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('there is none', '', { config: inProcess('$DIR/missing'),
		sdk: metadata, ours: { error: 'process' }, why: 'no_next_source' }),
	processCase('after keys', JSON.stringify(processKeys('ASIAPROCESS')),
		{ credentials: `[app]\n${keys('AKIAAPP')}`, both: { keys: 'AKIAAPP' } }),
	processCase('not allowed', JSON.stringify(processKeys('ASIAPROCESS')),
		{ options: {}, sdk: { keys: 'ASIAPROCESS' }, ours: { error: 'process' }, why: 'no_process' }),
	{ name: 'SSO', env: profile('app'),
		config: '[profile app]\nsso_session = s\nsso_account_id = 111122223333\nsso_role_name = r\n' +
			'[sso-session s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1',
		both: { error: 'profile' } }
];

// ---- containers ----

const eks = { ...fullUri('http://169.254.170.23/v1/credentials'), AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '$DIR/token' };

groups.container = [
	{ name: 'ECS', env: { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/v2/credentials/1234' },
		both: { keys: 'ASIACONTAINER', container: 'http://169.254.170.2/v2/credentials/1234' } },
	{ name: 'EKS Pod Identity', env: eks, files: token,
		both: { keys: `ASIACONTAINER(${token.token})`, container: 'http://169.254.170.23/v1/credentials' } },
	{ name: 'EKS Pod Identity over IPv6', env: { ...eks, ...fullUri('http://[fd00:ec2::23]/v1/credentials') },
		files: token,
		both: { keys: `ASIACONTAINER(${token.token})`, container: 'http://[fd00:ec2::23]/v1/credentials' } },
	{ name: 'this machine', env: fullUri('http://localhost:8080/keys?for=db'),
		both: { keys: 'ASIACONTAINER', container: 'http://localhost:8080/keys?for=db' } },
	{ name: 'another host with TLS', env: fullUri('https://keys.example.com/me'),
		both: { keys: 'ASIACONTAINER', container: 'https://keys.example.com/me' } },
	{ name: 'another host without TLS', env: fullUri('http://keys.example.com/me'),
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'another address without TLS', env: fullUri('http://169.254.170.3/me'),
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'both URIs', env: { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/ecs', ...fullUri() },
		sdk: { container: 'http://127.0.0.1/v2/credentials/1' }, ours: { container: 'http://169.254.170.2/ecs' },
		why: 'container_variables' },
	{ name: 'no URI', env: { ...fullUri('not a URI') },
		sdk: { error: 'something' }, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'authorization', env: { ...fullUri(), AWS_CONTAINER_AUTHORIZATION_TOKEN: 'Basic:eDp5' },
		both: { keys: 'ASIACONTAINER(Basic:eDp5)' } },
	{ name: 'a file before authorization',
		env: { ...fullUri(), AWS_CONTAINER_AUTHORIZATION_TOKEN: 'Basic:eDp5', AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '$DIR/token' },
		files: token, sdk: { keys: 'ASIACONTAINER(Basic:eDp5)' }, ours: { keys: `ASIACONTAINER(${token.token})` },
		why: 'container_variables' },
	{ name: 'the file is missing', env: eks,
		sdk: { error: 'something' }, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'authorization of two lines',
		env: { ...fullUri(), AWS_CONTAINER_AUTHORIZATION_TOKEN: 'a\r\nX-Other: b' },
		sdk: { error: 'something' }, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'forbidden', env: fullUri(), answers: { 'GET /v2/credentials/1': [403, '{"code": "AccessDenied"}'] },
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'not found', env: fullUri(), answers: { 'GET /v2/credentials/1': [404, ''] },
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'no keys', env: fullUri(), answers: { 'GET /v2/credentials/1': [200, '{}', 'application/json'] },
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'no JSON', env: fullUri(), answers: { 'GET /v2/credentials/1': [200, '<html>', 'text/html'] },
		sdk: { error: 'something' }, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'keys that have expired', env: fullUri(),
		answers: { 'GET /v2/credentials/1': [200, JSON.stringify(metadataKeys('ASIAOLD', Date.now() - HOUR)), 'application/json'] },
		sdk: { keys: 'ASIAOLD' }, ours: { error: 'container' }, why: 'expired_is_an_error' },
	{ name: 'after the default profile', env: fullUri(), credentials: `[default]\n${keys('AKIADEFAULT')}`,
		both: { keys: 'AKIADEFAULT' } },
	{ name: 'by option', env: fullUri(), credentials: `[default]\n${keys('AKIADEFAULT')}`,
		options: { source: 'container' },
		both: { keys: 'ASIACONTAINER' } },
	{ name: 'a newline after the token', env: eks, files: { token: token.token + '\n' },
		sdk: { error: 'container' }, ours: { keys: `ASIACONTAINER(${token.token})` }, why: 'newline_after_token' },
	{ name: 'an empty token', env: eks, files: { token: '' },
		sdk: { keys: 'ASIACONTAINER' }, ours: { error: 'container' }, why: 'half_configured' },
	{ name: 'a relative URI without /', env: { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: 'v2' },
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'empty variables are not set', env: { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '', ...fullUri('') },
		both: metadata },
	{ name: 'not metadata instead', env: fullUri(), answers: { 'GET /v2/credentials/1': [0, ''] },
		sdk: nothing, ours: { error: 'container' }, why: 'names_the_source' },
	{ name: 'by option, without variables', options: { source: 'container' }, both: { error: 'container' } }
];

// ---- instance metadata ----

groups['instance metadata'] = [
	{ name: 'nothing else', both: { keys: 'ASIAMETADATA', metadata: 'http://169.254.169.254' } },
	{ name: 'IPv6', env: { AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: 'IPv6' },
		both: { keys: 'ASIAMETADATA', metadata: 'http://[fd00:ec2::254]' } },
	{ name: 'IPv6 in lower case', env: { AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: 'ipv6' },
		sdk: { error: 'something' }, ours: { keys: 'ASIAMETADATA', metadata: 'http://[fd00:ec2::254]' },
		why: 'case_of_keys' },
	{ name: 'IPv6 by profile', config: '[default]\nec2_metadata_service_endpoint_mode = IPv6',
		both: { keys: 'ASIAMETADATA', metadata: 'http://[fd00:ec2::254]' } },
	{ name: 'another endpoint', env: { AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1338' },
		both: { keys: 'ASIAMETADATA', metadata: 'http://127.0.0.1:1338' } },
	{ name: 'another endpoint by profile',
		config: '[default]\nec2_metadata_service_endpoint = http://127.0.0.1:1338',
		both: { keys: 'ASIAMETADATA', metadata: 'http://127.0.0.1:1338' } },
	{ name: 'disabled', env: noMetadata, both: { error: 'nothing' } },
	{ name: 'disabled in upper case', env: { AWS_EC2_METADATA_DISABLED: 'TRUE' }, both: { error: 'nothing' } },
	{ name: 'not disabled', env: { AWS_EC2_METADATA_DISABLED: 'false' }, both: metadata },
	{ name: 'no role', answers: { [metadataRolePath]: [404, ''] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'no keys', answers: { [metadataKeysPath]: [200, '{"Code": "Failed", "Message": "x"}'] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'no JSON', answers: { [metadataKeysPath]: [200, '<html>'] },
		sdk: { error: 'something' }, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'no token', answers: { 'PUT /latest/api/token': [403, ''] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'a bad token', answers: { 'PUT /latest/api/token': [400, ''] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'keys that have expired',
		answers: { [metadataKeysPath]: [200, JSON.stringify({ Code: 'Success', ...metadataKeys('ASIAOLD', Date.now() - HOUR) })] },
		both: { keys: 'ASIAOLD' } },
	{ name: 'by option', env: user('AKIAENV'), options: { source: 'instance_metadata' }, both: metadata },
	{ name: 'version 1', answers: { 'PUT /latest/api/token': [404, ''], [metadataRolePath]: [200, 'metadata-role'],
		[metadataKeysPath]: [200, JSON.stringify({ Code: 'Success', ...metadataKeys('ASIAONE') })] },
		sdk: { keys: 'ASIAONE' }, ours: { error: 'instance metadata' }, why: 'no_version_1' },
	{ name: 'unreachable', answers: { 'PUT /latest/api/token': [0, ''], [metadataRolePath]: [0, ''] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'no answer, as behind a hop too many',
		answers: { 'PUT /latest/api/token': [-1, ''], [metadataRolePath]: [-1, ''] },
		sdk: nothing, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'both endpoint and IPv6',
		env: { AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1338/', AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: 'IPv6' },
		both: { keys: 'ASIAMETADATA', metadata: 'http://127.0.0.1:1338' } },
	{ name: 'a mode that is none', env: { AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: 'IPv5' },
		sdk: { error: 'something' }, ours: { error: 'instance metadata' }, why: 'names_the_source' },
	{ name: 'by option, disabled', env: noMetadata, options: { source: 'instance_metadata' },
		sdk: metadata, ours: { error: 'instance metadata' }, why: 'disabled_is_disabled' },
	{ name: 'a newline after the role', answers: { [metadataRolePath]: [200, 'metadata-role\n'] }, both: metadata }
];

// ---- region ----

const noRegion = { AWS_REGION: null };
const keysIn = (region) => ({ keys: 'AKIAENV', region });

groups.region = [
	{ name: 'AWS_REGION', env: { ...user('AKIAENV'), AWS_REGION: 'us-west-2' }, both: keysIn('us-west-2') },
	{ name: 'AWS_DEFAULT_REGION',
		env: { ...user('AKIAENV'), AWS_REGION: null, AWS_DEFAULT_REGION: 'us-west-2', ...noMetadata },
		sdk: { error: 'region' }, ours: keysIn('us-west-2'), why: 'default_region_variable' },
	{ name: 'both variables', env: { ...user('AKIAENV'), AWS_REGION: 'us-west-2', AWS_DEFAULT_REGION: 'us-east-2' },
		both: keysIn('us-west-2') },
	{ name: 'by option', env: user('AKIAENV'), options: { region: 'us-west-2' }, both: keysIn('us-west-2') },
	{ name: 'of the default profile', env: { ...user('AKIAENV'), ...noRegion },
		config: '[default]\nregion = us-west-2',
		both: keysIn('us-west-2') },
	{ name: 'of the default profile in credentials', env: { ...user('AKIAENV'), ...noRegion },
		credentials: '[default]\nregion = us-west-2',
		both: keysIn('us-west-2') },
	{ name: 'of a profile by name', env: { ...noRegion, ...profile('prod') },
		config: '[default]\nregion = us-east-2\n[profile prod]\nregion = us-west-2',
		credentials: `[prod]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD', region: 'us-west-2' } },
	{ name: 'of a profile by option', env: noRegion, options: { profile: 'prod' },
		config: '[default]\nregion = us-east-2\n[profile prod]\nregion = us-west-2',
		credentials: `[prod]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD', region: 'us-west-2' } },
	{ name: 'of both files', env: { ...user('AKIAENV'), ...noRegion }, config: '[default]\nregion = us-east-2',
		credentials: '[default]\nregion = us-west-2', both: keysIn('us-west-2') },
	{ name: 'of the environment before the profile', env: profile('prod'),
		config: '[profile prod]\nregion = us-west-2', credentials: `[prod]\n${keys('AKIAPROD')}`,
		both: { keys: 'AKIAPROD', region: 'eu-west-1' } },
	{ name: 'not that of source_profile', env: { ...noRegion, ...profile('app'), ...noMetadata }, credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\n[profile base]\nregion = us-west-2`,
		both: { error: 'region' } },
	{ name: 'of instance metadata', env: { ...user('AKIAENV'), ...noRegion },
		both: { ...keysIn('sa-east-1'), metadata: 'http://169.254.169.254' } },
	{ name: 'of instance metadata, for a role', env: { ...user('AKIAENV'), ...noRegion },
		options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', region: 'sa-east-1', stsRegion: 'sa-east-1' } },
	{ name: 'keys and region of instance metadata', env: noRegion, both: { ...metadata, region: 'sa-east-1' } },
	{ name: 'of nothing', env: { ...user('AKIAENV'), ...noRegion, ...noMetadata }, both: { error: 'region' } },
	{ name: 'no name of a host', env: { ...user('AKIAENV'), AWS_REGION: 'x.example.com/' },
		both: { error: 'region' } },
	{ name: 'for STS', env: { ...profile('app'), ...noRegion }, credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nregion = us-west-2`,
		both: { keys: 'deploy~AKIABASE', region: 'us-west-2', stsRegion: 'us-west-2' } },
	{ name: 'for STS, of the environment and of the profile', env: profile('app'), credentials: base,
		config: `[profile app]\n${role('deploy')}\nsource_profile = base\nregion = us-west-2`,
		sdk: { region: 'eu-west-1', stsRegion: 'us-west-2', stsEndpoint: 'https://sts.us-west-2.amazonaws.com' },
		ours: { region: 'eu-west-1', stsRegion: 'eu-west-1', stsEndpoint: 'https://sts.eu-west-1.amazonaws.com' },
		why: 'one_region' },
	{ name: 'in upper case', env: { ...user('AKIAENV'), AWS_REGION: 'US-WEST-2' },
		sdk: keysIn('US-WEST-2'), ours: { error: 'region' }, why: 'malformed_is_an_error' },
	{ name: 'FIPS as part of it', env: { ...user('AKIAENV'), AWS_REGION: 'fips-us-west-2' },
		sdk: { ...keysIn('us-west-2'), endpoint: 'https://sqs-fips.us-west-2.amazonaws.com' },
		ours: { error: 'region' }, why: 'one_way_to_fips' },
	{ name: 'empty', env: { ...user('AKIAENV'), AWS_REGION: '' }, config: '[default]\nregion = us-west-2',
		sdk: { error: 'region' }, ours: keysIn('us-west-2'), why: 'empty_is_not_set' }
];

// ---- endpoints ----

const at = (endpoint) => ({ keys: 'AKIAENV', endpoint });
const fips = { AWS_USE_FIPS_ENDPOINT: 'true' };
const dualstack = { AWS_USE_DUALSTACK_ENDPOINT: 'true' };

// SQS and STS of each partition
const hosts = [
	['us-east-1', 'sqs.us-east-1.amazonaws.com', 'sqs-fips.us-east-1.amazonaws.com', 'sqs.us-east-1.api.aws', 'sqs-fips.us-east-1.api.aws'],
	['cn-north-1', 'sqs.cn-north-1.amazonaws.com.cn', 'sqs-fips.cn-north-1.amazonaws.com.cn',
		'sqs.cn-north-1.api.amazonwebservices.com.cn', 'sqs-fips.cn-north-1.api.amazonwebservices.com.cn'],
	['us-gov-west-1', 'sqs.us-gov-west-1.amazonaws.com', 'sqs.us-gov-west-1.amazonaws.com',
		'sqs.us-gov-west-1.api.aws', 'sqs-fips.us-gov-west-1.api.aws'],
	['eusc-de-east-1', 'sqs.eusc-de-east-1.amazonaws.eu', 'sqs-fips.eusc-de-east-1.amazonaws.eu',
		'sqs.eusc-de-east-1.api.amazonwebservices.eu', 'sqs-fips.eusc-de-east-1.api.amazonwebservices.eu'],
	['us-iso-east-1', 'sqs.us-iso-east-1.c2s.ic.gov', 'sqs-fips.us-iso-east-1.c2s.ic.gov',
		'sqs.us-iso-east-1.api.aws.ic.gov', 'sqs-fips.us-iso-east-1.api.aws.ic.gov'],
	['us-isob-east-1', 'sqs.us-isob-east-1.sc2s.sgov.gov', 'sqs-fips.us-isob-east-1.sc2s.sgov.gov',
		'sqs.us-isob-east-1.api.aws.scloud', 'sqs-fips.us-isob-east-1.api.aws.scloud'],
	['eu-isoe-west-1', 'sqs.eu-isoe-west-1.cloud.adc-e.uk', 'sqs-fips.eu-isoe-west-1.cloud.adc-e.uk',
		'sqs.eu-isoe-west-1.api.cloud-aws.adc-e.uk', 'sqs-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk'],
	['us-isof-south-1', 'sqs.us-isof-south-1.csp.hci.ic.gov', 'sqs-fips.us-isof-south-1.csp.hci.ic.gov',
		'sqs.us-isof-south-1.api.aws.hci.ic.gov', 'sqs-fips.us-isof-south-1.api.aws.hci.ic.gov']
];

// STS calls its FIPS endpoints in GovCloud as SQS does
const stsHost = (host) => host.replace(/^sqs/, 'sts');

groups.endpoints = hosts.flatMap(([region, plain, withFips, withDualstack, withBoth]) =>
	[['', {}, plain], [', FIPS', fips, withFips], [', dual stack', dualstack, withDualstack],
		[', FIPS and dual stack', { ...fips, ...dualstack }, withBoth]].map(([name, env, host]) => ({
		name: region + name, env: { ...user('AKIAENV'), AWS_REGION: region, ...env },
		options: { role_arn: roleArn('deploy').replace(':aws:', ':' + partition(region) + ':') },
		both: {
			keys: 'deploy~AKIAENV', endpoint: 'https://' + host, region,
			stsEndpoint: 'https://' + stsHost(host), stsRegion: region
		}
	})));

function partition(region) {
	const form = /^(cn|us-gov|eusc|us-iso[bf]?|eu-isoe)-/.exec(region);
	return form ? 'aws-' + form[1].replace(/^(us|eu)-iso/, 'iso') : 'aws';
}

groups.endpoints.push(
	{ name: 'a region yet unknown', env: { ...user('AKIAENV'), AWS_REGION: 'mx-south-7' },
		both: at('https://sqs.mx-south-7.amazonaws.com') },
	{ name: 'FIPS by profile', env: user('AKIAENV'), config: '[default]\nuse_fips_endpoint = true',
		both: at('https://sqs-fips.eu-west-1.amazonaws.com') },
	{ name: 'dual stack by profile', env: user('AKIAENV'), config: '[default]\nuse_dualstack_endpoint = true',
		both: at('https://sqs.eu-west-1.api.aws') },
	{ name: 'FIPS by variable before the profile', env: { ...user('AKIAENV'), AWS_USE_FIPS_ENDPOINT: 'false' },
		config: '[default]\nuse_fips_endpoint = true', both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'FIPS by option', env: user('AKIAENV'), options: { use_fips: 1 },
		both: at('https://sqs-fips.eu-west-1.amazonaws.com') },
	{ name: 'no FIPS by option before the variable', env: { ...user('AKIAENV'), ...fips }, options: { use_fips: 0 },
		both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'dual stack by option', env: user('AKIAENV'), options: { use_dualstack: 1 },
		both: at('https://sqs.eu-west-1.api.aws') },
	{ name: 'FIPS of no known value', env: { ...user('AKIAENV'), AWS_USE_FIPS_ENDPOINT: 'perhaps' },
		sdk: at('https://sqs.eu-west-1.amazonaws.com'), ours: { error: 'endpoint' }, why: 'malformed_is_an_error' },

	{ name: 'AWS_ENDPOINT_URL', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL: 'https://all.example.com' },
		both: at('https://all.example.com') },
	{ name: 'AWS_ENDPOINT_URL_SQS',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com:8443' },
		both: at('https://sqs.example.com:8443') },
	{ name: 'AWS_ENDPOINT_URL_SQS before AWS_ENDPOINT_URL',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com', AWS_ENDPOINT_URL: 'https://all.example.com' },
		both: at('https://sqs.example.com') },
	{ name: 'AWS_ENDPOINT_URL for STS', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL: 'https://all.example.com' },
		options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', endpoint: 'https://all.example.com', stsEndpoint: 'https://all.example.com' } },
	{ name: 'AWS_ENDPOINT_URL_STS', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_STS: 'https://sts.example.com' },
		options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', endpoint: 'https://sqs.eu-west-1.amazonaws.com', stsEndpoint: 'https://sts.example.com' } },
	{ name: 'by option', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com' },
		options: { endpoint: 'https://option.example.com' }, both: at('https://option.example.com') },
	{ name: 'endpoint_url of a profile', env: user('AKIAENV'),
		config: '[default]\nendpoint_url = https://profile.example.com',
		both: at('https://profile.example.com') },
	{ name: 'services', env: user('AKIAENV'),
		config: '[default]\nservices = local\n[services local]\nsqs =\n  endpoint_url = https://sqs.example.com\n' +
			'sts =\n  endpoint_url = https://sts.example.com', options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', endpoint: 'https://sqs.example.com', stsEndpoint: 'https://sts.example.com' } },
	{ name: 'services before endpoint_url', env: user('AKIAENV'),
		config: '[default]\nendpoint_url = https://profile.example.com\nservices = local\n' +
			'[services local]\nsqs =\n  endpoint_url = https://sqs.example.com',
		both: at('https://sqs.example.com') },
	{ name: 'services of a profile by name', env: profile('app'),
		config: `[profile app]\n${keys('AKIAENV')}\nservices = local\n[services local]\nsqs =\n  endpoint_url = https://sqs.example.com`,
		both: at('https://sqs.example.com') },
	{ name: 'services of a profile by option', options: { profile: 'app' },
		config: `[profile app]\n${keys('AKIAENV')}\nservices = local\n[services local]\nsqs =\n  endpoint_url = https://sqs.example.com`,
		sdk: at('https://sqs.eu-west-1.amazonaws.com'), ours: at('https://sqs.example.com'),
		why: 'profile_option' },
	{ name: 'services without SQS', env: user('AKIAENV'),
		config: '[default]\nservices = local\n[services local]\ns3 =\n  endpoint_url = https://s3.example.com',
		both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'services that are missing', env: user('AKIAENV'), config: '[default]\nservices = local',
		sdk: at('https://sqs.eu-west-1.amazonaws.com'), ours: { error: 'profile' }, why: 'half_configured' },
	{ name: 'AWS_ENDPOINT_URL before services',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL: 'https://all.example.com' },
		config: '[default]\nservices = local\n[services local]\nsqs =\n  endpoint_url = https://sqs.example.com',
		both: at('https://all.example.com') },
	{ name: 'AWS_ENDPOINT_URL_SQS before services',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://env.example.com' },
		config: '[default]\nservices = local\n[services local]\nsqs =\n  endpoint_url = https://sqs.example.com',
		both: at('https://env.example.com') },
	{ name: 'ignored',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL: 'https://all.example.com', AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' },
		both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'ignored by profile', env: user('AKIAENV'),
		config: '[default]\nendpoint_url = https://profile.example.com\nignore_configured_endpoint_urls = true',
		both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'ignored, in upper case',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL: 'https://all.example.com', AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'TRUE' },
		sdk: at('https://all.example.com'), ours: at('https://sqs.eu-west-1.amazonaws.com'), why: 'case_of_keys' },
	{ name: 'FIPS in upper case', env: { ...user('AKIAENV'), AWS_USE_FIPS_ENDPOINT: 'TRUE' },
		sdk: at('https://sqs.eu-west-1.amazonaws.com'), ours: at('https://sqs-fips.eu-west-1.amazonaws.com'),
		why: 'case_of_keys' },
	{ name: 'empty variables are not set',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: '', AWS_ENDPOINT_URL: '' },
		both: at('https://sqs.eu-west-1.amazonaws.com') },
	{ name: 'a slash at the end', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com/' },
		both: at('https://sqs.example.com') },
	{ name: 'with a path', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com/aws/' },
		sdk: at('https://sqs.example.com/aws'), ours: { error: 'endpoint' }, why: 'no_path' },
	{ name: 'no URL', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'sqs.example.com' },
		sdk: { error: 'something' }, ours: { error: 'endpoint' }, why: 'names_the_source' },
	{ name: 'this machine, without TLS', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'http://localhost:4566' },
		both: at('http://localhost:4566') },
	{ name: 'another machine, without TLS',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'http://sqs.example.com' },
		sdk: at('http://sqs.example.com'), ours: { error: 'endpoint' }, why: 'tls' },
	{ name: 'with FIPS', env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com', ...fips },
		both: { error: 'endpoint' } },
	{ name: 'with dual stack',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_SQS: 'https://sqs.example.com', ...dualstack },
		both: { error: 'endpoint' } },
	{ name: 'of STS with dual stack',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_STS: 'https://sts.example.com', ...dualstack },
		options: { role_arn: roleArn('deploy') }, both: { error: 'endpoint' } },
	{ name: 'of STS with dual stack, not needed',
		env: { ...user('AKIAENV'), AWS_ENDPOINT_URL_STS: 'https://sts.example.com', ...dualstack },
		both: at('https://sqs.eu-west-1.api.aws') },
	{ name: 'STS as it was', env: { ...user('AKIAENV'), AWS_STS_REGIONAL_ENDPOINTS: 'legacy' },
		options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', stsEndpoint: 'https://sts.eu-west-1.amazonaws.com', stsRegion: 'eu-west-1' } },
	{ name: 'STS as it was, by profile', env: user('AKIAENV'), config: '[default]\nsts_regional_endpoints = legacy',
		options: { role_arn: roleArn('deploy') },
		both: { keys: 'deploy~AKIAENV', stsEndpoint: 'https://sts.eu-west-1.amazonaws.com', stsRegion: 'eu-west-1' } },
	{ name: 'web identity, STS with FIPS', env: { ...webIdentity('pod'), ...fips }, files: token,
		both: { keys: `pod~${fromToken}`, stsEndpoint: 'https://sts-fips.eu-west-1.amazonaws.com' } }
);

// ---- keys of a user mapping: the environment neither lends nor redirects ----

const mapping = {
	source: 'static', access_key_id: 'AKIAMAPPING', secret_access_key: secretOf('AKIAMAPPING'), region: 'us-west-2'
};
const ofMapping = { keys: 'AKIAMAPPING', region: 'us-west-2' };

groups.mapping = [
	{ name: 'keys', options: mapping, both: { ...ofMapping, endpoint: 'https://sqs.us-west-2.amazonaws.com' } },
	{ name: 'before keys of the environment', env: user('AKIAENV'), options: mapping, both: ofMapping },
	{ name: 'with a token',
		options: { ...mapping, access_key_id: 'ASIAMAPPING', secret_access_key: secretOf('ASIAMAPPING'),
		session_token: tokenOf('ASIAMAPPING') }, both: { ...ofMapping, keys: 'ASIAMAPPING' } },
	{ name: 'with a role', options: { ...mapping, role_arn: roleArn('deploy') },
		both: { ...ofMapping, keys: 'deploy~AKIAMAPPING' } },
	{ name: 'AWS_ENDPOINT_URL', env: { AWS_ENDPOINT_URL: 'https://all.example.com' }, options: mapping,
		sdk: { endpoint: 'https://all.example.com' }, ours: { endpoint: 'https://sqs.us-west-2.amazonaws.com' },
		why: 'mapping_alone' },
	{ name: 'endpoint_url of a profile', config: '[default]\nendpoint_url = https://profile.example.com',
		options: mapping,
		sdk: { endpoint: 'https://profile.example.com' }, ours: { endpoint: 'https://sqs.us-west-2.amazonaws.com' },
		why: 'mapping_alone' },
	{ name: 'AWS_USE_FIPS_ENDPOINT', env: fips, options: mapping,
		sdk: { endpoint: 'https://sqs-fips.us-west-2.amazonaws.com' },
		ours: { endpoint: 'https://sqs.us-west-2.amazonaws.com' },
		why: 'mapping_alone' },
	{ name: 'AWS_REGION', options: { ...mapping, region: undefined },
		sdk: { keys: 'AKIAMAPPING', region: 'eu-west-1' }, ours: { error: 'region' }, why: 'mapping_alone' }
];

module.exports = {
	usual,
	cases: Object.entries(groups).flatMap(([group, list]) => list.map((one) => ({ group, ...one })))
};
