//! One deployment: its provider's row, where it is, and what it is called with.

use http::Uri;
use serde_json::{Map, Value};

use super::{
    compile,
    fields::{self, Fields},
    grant, idle, mock, model as own, nowhere, price, traits,
    upstream::Upstream,
};
use crate::{
    config::{
        Access, Batch, Breaker, Concurrency, Deployment, Place,
        diagnostic::{Diagnostic, Spot},
        raw::{RawDeployment, RawModel},
        reading::Reading,
        suggest,
        tree::{At, Tree},
        units,
    },
    dialect::Settings,
    event::Task,
    provider::{self, Kind, PROVIDERS, Provider, Sets, Setting},
};

/// What an endpoint says of all its deployments.
pub(super) struct Common {
    /// What it does.
    pub task: Task,
    /// How they are reached.
    pub upstream: Upstream,
    /// When they are left alone.
    pub breaker: Breaker,
    /// How many calls they get at once.
    pub concurrency: Option<Concurrency>,
    /// How requests to them are put together.
    pub batch: Option<Batch>,
}

/// The deployment, its alias still as written; `None` when what is wrong with it leaves none.
pub(super) fn lower(at: &At<RawDeployment>, common: &Common, reading: &mut Reading<'_>) -> Option<Deployment> {
    let raw = &at.value;
    let upstream = common.upstream.with(raw.upstream.as_ref(), reading);
    // What is wrong here is said also when the model is.
    let condition = raw.when.as_ref().and_then(|when| compile::condition(when, reading));
    let mut traits = traits::lower(raw, common, &upstream, reading);
    let model = raw.model.as_ref()?;
    own::check_idle(model, reading);
    own::check_upstream(model, raw.upstream.as_ref(), reading);
    let bases = bases(model, reading);
    let provider = fields::flavoured(model.value.config.as_ref(), find_provider(model, reading)?, reading);
    let provider = at_oip(model, provider, reading);
    let (fields, place) = locate(model, common.task, provider, bases, reading)?;
    let place = match upstream.manager {
        Some(manager) if !matches!(place, Place::Mock(_) | Place::Model(_)) => nowhere(fields::in_manager(manager)),
        _ => place,
    };
    idle::check(&fields, &upstream, reading);
    if let (Place::Model(_), Some(key)) = (&place, &fields.key) {
        idle::beside(key, "uri", "one of the two: nobody is asked for a model that Flowgate runs", reading);
    }
    let has_key = fields.key.is_some() || upstream.auth.is_some();
    idle::check_address(&fields, model, has_key, reading);
    let granted = if has_key { None } else { grant::lower(model, &fields, &upstream, &place, reading) };
    idle::check_headers(&fields, &upstream, granted.as_ref(), reading);
    // A secret that is not set has been told of already.
    let asks = fields.given.iter().any(|given| matches!(provider.field(&given.value), Some(Sets::Secret(_))));
    if granted.is_none() && !asks && !has_key {
        check_key(model, provider, reading);
    }
    price::complete(&mut traits, raw, common.task, provider, reading);
    traits::keep_streaming(&mut traits, provider);
    let Fields { credentials, mut headers, settings, templates, mut hidden, .. } = fields;
    headers.extend(upstream.headers);
    hidden.extend(upstream.hidden);
    Some(Deployment {
        alias: raw.alias.as_ref().map(|alias| alias.value.clone()).unwrap_or_default(),
        weight: raw.weight.as_ref().map(|weight| weight.value),
        condition,
        provider,
        model: model.value.name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
        place,
        parameters: parameters(&model.value),
        credentials: match (upstream.credential, granted) {
            (Some(own), _) => vec![Access::Held(own)],
            (None, Some(grant)) => vec![Access::Granted(grant)],
            (None, None) => credentials.into_iter().map(Access::Held).collect(),
        },
        headers,
        hidden,
        settings,
        templates,
        proxy: upstream.proxy,
        ca: upstream.ca,
        traits,
    })
}

fn parameters(model: &RawModel) -> Map<String, Value> {
    match model.parameters.as_ref().map(Tree::to_json) {
        Some(Value::Object(parameters)) => parameters,
        _ => Map::new(),
    }
}

fn find_provider(model: &At<RawModel>, reading: &mut Reading<'_>) -> Option<&'static Provider> {
    let name = model.value.provider.as_ref()?;
    let found = provider::find(&name.value);
    if found.is_none() {
        let names: Vec<_> = PROVIDERS.iter().flat_map(|row| row.aliases.iter().chain([&row.name])).copied().collect();
        let diagnostic = Diagnostic::new(format!("unknown provider {}", reading.shown(name.spot)));
        let expected = "a provider that `flowgate schema` lists, or `openai-compatible` with its `url`";
        reading.error(name.spot, diagnostic.expected(expected).suggest(suggest::nearest(&name.value, &names)));
    }
    found
}

/// The addresses beside `provider`, with the place of the first.
fn bases(model: &At<RawModel>, reading: &mut Reading<'_>) -> Vec<(Spot, Uri)> {
    let raw = &model.value;
    if let (Some(_), Some(urls)) = (&raw.url, raw.urls.as_ref().and_then(|urls| urls.first())) {
        let diagnostic = Diagnostic::new("`urls` stands beside `url`").expected("one of the two");
        reading.error(urls.spot, diagnostic);
    }
    if raw.urls.as_ref().is_some_and(Vec::is_empty) && !reading.is_damaged(model.spot) {
        reading.error(model.spot, Diagnostic::new("`urls` is empty").expected("at least one address"));
        reading.damage(model.spot);
    }
    let mut bases = Vec::new();
    let several = raw.urls.iter().flatten().map(|url| ("urls", url));
    for (key, url) in raw.oip.iter().map(|url| ("oip", url)).chain(raw.url.iter().map(|url| ("url", url))).chain(several) {
        match units::url(&url.value) {
            Ok(uri) => bases.push((url.spot, uri)),
            Err(what) => {
                fields::wrong_url(url.spot, key, what, reading);
                reading.damage(model.spot);
            }
        }
    }
    bases
}

fn locate(
    model: &At<RawModel>,
    task: Task,
    provider: &'static Provider,
    mut bases: Vec<(Spot, Uri)>,
    reading: &mut Reading<'_>,
) -> Option<(Fields, Place)> {
    let config = model.value.config.as_ref();
    if provider.kind == Kind::Mock {
        if let Some((spot, _)) = bases.first() {
            reading.error(*spot, Diagnostic::new(format!("`{}` has no address", provider.name)).expected("no `url`"));
        }
        let mock = Place::Mock(mock::lower(config, reading));
        let mut fields = fields::lower(None, model.spot, provider, reading);
        fields.fill_settings(&[], reading);
        return Some((fields, mock));
    }
    let mut fields = fields::lower(config, model.spot, provider, reading);
    if let Some((spot, uri)) = &fields.base {
        if bases.is_empty() {
            bases.push((*spot, uri.clone()));
        } else {
            let diagnostic = Diagnostic::new("the address stands here and in `url`").expected("one address");
            reading.error(*spot, diagnostic.suggest(Some("list equal replicas in `urls`")));
        }
    }
    fields.fill_settings(&bases, reading);
    fields.check_query(reading);
    let uris = bases.iter().map(|(_, uri)| uri.clone()).collect();
    let place = check_uri(model, provider, &bases, reading).or_else(|| place(model, provider, uris, &fields, reading))?;
    let place = match &fields.nowhere {
        // Nothing that could be set would help.
        Some(reason) if provider.instead.is_none() => nowhere(reason.clone()),
        _ => spoken(provider, task).unwrap_or(place),
    };
    Some((fields, place))
}

/// The row that is meant: an `oip` address stands for another protocol than that of the provider it is written beside.
fn at_oip(model: &At<RawModel>, provider: &'static Provider, reading: &mut Reading<'_>) -> &'static Provider {
    let (Some(oip), Some(row)) = (&model.value.oip, provider::inference()) else { return provider };
    let beside =
        [model.value.uri.as_ref().map(|_| "uri"), model.value.url.as_ref().map(|_| "url"), model.value.urls.as_ref().map(|_| "urls")];
    if let Some(key) = beside.into_iter().flatten().next() {
        reading.error(oip.spot, Diagnostic::new(format!("`oip` stands beside `{key}`")).expected("one of the two"));
    }
    if provider.kind != Kind::Models && provider.name != row.name {
        let diagnostic = Diagnostic::new(format!("`oip` does not go with `provider: {}`", provider.name));
        reading.error(oip.spot, diagnostic.expected("`provider: mlflow`"));
    }
    row
}

/// What a `uri` means.
fn check_uri(model: &At<RawModel>, provider: &Provider, bases: &[(Spot, Uri)], reading: &mut Reading<'_>) -> Option<Place> {
    let at = model.value.uri.as_ref().filter(|_| model.value.oip.is_none())?;
    if provider.kind != Kind::Models {
        let diagnostic = Diagnostic::new(format!("`uri` does not go with `provider: {}`", provider.name));
        reading.error(at.spot, diagnostic.expected("`provider: mlflow`"));
    }
    if let Some((spot, _)) = bases.first() {
        reading.error(*spot, Diagnostic::new("an address stands beside `uri`").expected("one of the two"));
    }
    let model = own::lower(at, &model.value.run, reading);
    Some(model.map_or_else(|| nowhere("its `uri` names no model"), |model| Place::Model(Box::new(model))))
}

fn place(model: &At<RawModel>, provider: &Provider, uris: Vec<Uri>, fields: &Fields, reading: &mut Reading<'_>) -> Option<Place> {
    if !uris.is_empty() {
        return Some(Place::Http(uris));
    }
    if !provider.base.is_empty() {
        return match address(provider, &fields.settings) {
            Ok(base) => Some(Place::Http(vec![base])),
            Err(Some(setting)) if fields.nowhere.is_none() && !reading.is_damaged(model.spot) => {
                let or_env = setting.env.first().map(|env| format!(", or the environment variable {env}")).unwrap_or_default();
                let diagnostic = Diagnostic::new(format!("`{}` needs `{}`", provider.name, setting.name));
                reading.error(model.spot, diagnostic.expected(format!("`{}` in `config`{or_env}, or `url`", setting.name)));
                None
            }
            Err(_) => Some(nowhere("its address is not set")),
        };
    }
    let unspoken = provider.llm.is_none() && provider.predict.is_none();
    if unspoken || fields.nowhere.is_some() || reading.is_damaged(model.spot) {
        return Some(nowhere("its address is not set"));
    }
    let or_uri = if provider.kind == Kind::Models { ", or `uri`" } else { "" };
    let diagnostic = Diagnostic::new(format!("`{}` needs an address", provider.name));
    reading.error(model.spot, diagnostic.expected(format!("`url` or `urls`{or_uri}")));
    None
}

/// The address of a row, with its settings in their places; the setting that says nothing fit for an address, if one does not.
fn address(provider: &Provider, settings: &Settings) -> Result<Uri, Option<&'static Setting>> {
    let address = provider.address(settings).map_err(Some)?;
    units::url(&address).map_err(|_| provider.placed().last())
}

/// Why a provider cannot serve a task in this build, if it cannot.
fn spoken(provider: &Provider, task: Task) -> Option<Place> {
    let tasks = [Some(task), super::counterpart(task)];
    let mut tasks = tasks.into_iter().flatten();
    if tasks.clone().any(|task| provider.dialect(task).is_some()) {
        return None;
    }
    let (name, kind) = (provider.name, task.endpoint_type());
    if let Some(instead) = provider.instead {
        return Some(nowhere(format!("{name} cannot be called: {instead}")));
    }
    Some(nowhere(if tasks.any(|task| provider.tasks.contains(&task)) {
        format!("this build does not speak the protocol of {name} for {kind} yet; use a provider or a proxy that speaks OpenAI's protocol")
    } else {
        format!("{name} does not serve {kind}; name another provider or another `endpoint_type`")
    }))
}

fn check_key(model: &At<RawModel>, provider: &Provider, reading: &mut Reading<'_>) {
    if !provider.needs_key || provider.instead.is_some() || reading.is_damaged(model.spot) {
        return;
    }
    let diagnostic = Diagnostic::new(format!("`{}` needs a key", provider.name)).expected("`api_key` in `config`");
    let suggestion = format!("add `config: {{ api_key: ${} }}`", provider.key_env);
    reading.error(model.spot, diagnostic.suggest(Some(suggestion)));
}
