//! The one table of paths and permissions. A path that has no row, or whose RPC declares no permission, is refused.

use std::collections::HashMap;

use flowgate_proto::v1::{ErrorReason, Permission};
use http::Method;
use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use crate::{
    error::{Error, Result},
    event::Task,
};

/// Paths that are not RPCs of ours, with what they need.
const FOREIGN: &[(Method, &str, Permission, Door)] = &[
    (Method::GET, "/health", Permission::Public, Door::Health),
    (Method::GET, "/openapi.json", Permission::Public, Door::OpenApi),
    (Method::POST, "/v1/chat/completions", Permission::Invoke, Door::OpenAi(Task::Chat)),
    (Method::POST, "/v1/completions", Permission::Invoke, Door::OpenAi(Task::Complete)),
    (Method::POST, "/v1/embeddings", Permission::Invoke, Door::OpenAi(Task::Embed)),
    (Method::GET, "/v1/models", Permission::List, Door::Models),
    (Method::GET, "/v1/models/{endpoint}", Permission::List, Door::Model),
    (Method::POST, "/llm/v1/chat/{endpoint}", Permission::Invoke, Door::Named(Task::Chat)),
    (Method::POST, "/llm/v1/completions/{endpoint}", Permission::Invoke, Door::Named(Task::Complete)),
    (Method::POST, "/llm/v1/embeddings/{endpoint}", Permission::Invoke, Door::Named(Task::Embed)),
    (Method::POST, "/endpoints/{endpoint}/invocations", Permission::Invoke, Door::Invocations),
    (Method::POST, "/gateway/{endpoint}/invocations", Permission::Invoke, Door::Invocations),
    (Method::POST, "/invocations", Permission::Invoke, Door::DefaultInvocations),
    (Method::GET, "/api/2.0/endpoints/", Permission::List, Door::MlflowEndpoints),
    (Method::GET, "/api/2.0/endpoints", Permission::List, Door::MlflowEndpoints),
    (Method::GET, "/api/2.0/endpoints/{endpoint}", Permission::List, Door::MlflowEndpoint),
    (Method::GET, "/v2", Permission::Public, Door::Oip(Oip::Server)),
    (Method::GET, "/v2/health/live", Permission::Public, Door::Oip(Oip::Live)),
    (Method::GET, "/v2/health/ready", Permission::Public, Door::Oip(Oip::Ready)),
    (Method::GET, "/v2/models/{endpoint}", Permission::List, Door::Oip(Oip::Model)),
    (Method::GET, "/v2/models/{endpoint}/versions/{version}", Permission::List, Door::Oip(Oip::Model)),
    (Method::GET, "/v2/models/{endpoint}/ready", Permission::List, Door::Oip(Oip::ModelReady)),
    (Method::GET, "/v2/models/{endpoint}/versions/{version}/ready", Permission::List, Door::Oip(Oip::ModelReady)),
    (Method::POST, "/v2/models/{endpoint}/infer", Permission::Invoke, Door::Oip(Oip::Infer)),
    (Method::POST, "/v2/models/{endpoint}/versions/{version}/infer", Permission::Invoke, Door::Oip(Oip::Infer)),
    (Method::POST, "/v2/repository/index", Permission::List, Door::Oip(Oip::Index)),
    (Method::POST, "/v2/repository/models/{endpoint}/load", Permission::Invoke, Door::Oip(Oip::Load)),
    (Method::POST, "/v2/repository/models/{endpoint}/unload", Permission::Invoke, Door::Oip(Oip::Unload)),
];

/// RPCs that others have defined, which are served beside ours.
const FOREIGN_RPCS: &[(&str, Permission)] = &[
    ("/grpc.health.v1.Health/Check", Permission::Public),
    ("/grpc.health.v1.Health/Watch", Permission::Public),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Permission::Public),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Permission::Public),
    ("/inference.GRPCInferenceService/ServerLive", Permission::Public),
    ("/inference.GRPCInferenceService/ServerReady", Permission::Public),
    ("/inference.GRPCInferenceService/ServerMetadata", Permission::Public),
    ("/inference.GRPCInferenceService/ModelReady", Permission::List),
    ("/inference.GRPCInferenceService/ModelMetadata", Permission::List),
    ("/inference.GRPCInferenceService/ModelInfer", Permission::Invoke),
    ("/inference.GRPCInferenceService/ModelStreamInfer", Permission::Invoke),
    ("/inference.GRPCInferenceService/RepositoryIndex", Permission::List),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", Permission::Invoke),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", Permission::Invoke),
];

/// What stands behind an HTTP path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `GET /health`.
    Health,
    /// `GET /openapi.json`.
    OpenApi,
    /// OpenAI's path; the body's `model` names the endpoint.
    OpenAi(Task),
    /// OpenAI's body for the endpoint that the path names.
    Named(Task),
    /// OpenAI's list of models.
    Models,
    /// One of OpenAI's models.
    Model,
    /// MLflow's `invocations` for the endpoint that the path names, whatever its task.
    Invocations,
    /// The scoring server's own path.
    DefaultInvocations,
    /// MLflow's list of endpoints.
    MlflowEndpoints,
    /// One of MLflow's endpoints.
    MlflowEndpoint,
    /// A path of the Open Inference Protocol.
    Oip(Oip),
    /// An RPC of ours over HTTP, by its place in [`Table::rpcs`].
    Native(usize),
}

/// What a path of the Open Inference Protocol asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oip {
    /// Who answers.
    Server,
    /// Whether the gateway runs.
    Live,
    /// Whether it takes calls.
    Ready,
    /// What a model takes and gives.
    Model,
    /// Whether a model can be called.
    ModelReady,
    /// An inference.
    Infer,
    /// The models.
    Index,
    /// To load a model.
    Load,
    /// To unload one.
    Unload,
}

/// One HTTP path.
#[derive(Clone, Debug)]
pub struct Row {
    /// The verb.
    pub method: Method,
    /// The template; `{name}` stands for one segment or a part of it.
    pub path: String,
    /// What the caller must be allowed to do.
    pub permission: Permission,
    /// What stands behind it.
    pub door: Door,
}

/// An RPC of the embedded descriptors.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// `/package.Service/Method`.
    pub path: String,
    /// Its descriptor, options included.
    pub descriptor: MethodDescriptor,
    /// What the caller must be allowed to do; an RPC that declares nothing is refused.
    pub permission: Permission,
    /// Verb and template of `google.api.http`; `None` when it has no HTTP form.
    pub http: Option<(Method, String)>,
}

/// All paths.
#[derive(Debug)]
pub struct Table {
    rpcs: Vec<Rpc>,
    rows: Vec<Row>,
    /// Template to places in `rows`, one per verb.
    router: matchit::Router<Vec<usize>>,
    grpc: HashMap<String, Permission>,
}

/// A row and what its template's names stand for.
#[derive(Debug)]
pub struct Found<'t> {
    /// The row.
    pub row: &'t Row,
    /// `endpoint` of the template, percent-decoded; empty when the template has none.
    pub endpoint: String,
    /// The same of `version`.
    pub version: String,
}

impl Door {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi(_) | Self::Named(_) | Self::Models | Self::Model => "openai",
            Self::Invocations | Self::DefaultInvocations | Self::MlflowEndpoints | Self::MlflowEndpoint => "mlflow",
            Self::Oip(_) => "oip",
            Self::Native(_) => "json",
            Self::Health | Self::OpenApi => "http",
        }
    }
}

impl Row {
    /// The verbs that lead here.
    fn takes(&self) -> &[Method] {
        if self.method == Method::GET { &[Method::GET, Method::HEAD] } else { std::slice::from_ref(&self.method) }
    }
}

impl Table {
    /// The table over the embedded descriptors.
    ///
    /// # Errors
    /// An internal error when two paths clash or the descriptors cannot be read; a test proves that they do not.
    pub fn new() -> Result<Self> {
        let pool = DescriptorPool::decode(flowgate_proto::FILE_DESCRIPTOR_SET).map_err(broken)?;
        let rpcs: Vec<Rpc> =
            pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).map(|method| rpc(&pool, method)).collect();
        let foreign = FOREIGN.iter().map(|(method, path, permission, door)| Row {
            method: method.clone(),
            path: (*path).to_owned(),
            permission: *permission,
            door: *door,
        });
        let native = rpcs.iter().enumerate().filter_map(|(place, rpc)| {
            let (method, path) = rpc.http.clone()?;
            Some(Row { method, path, permission: rpc.permission, door: Door::Native(place) })
        });
        let rows: Vec<Row> = foreign.chain(native).collect();
        let mut by_path: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, row) in rows.iter().enumerate() {
            by_path.entry(&row.path).or_default().push(place);
        }
        let mut router = matchit::Router::new();
        for (path, places) in by_path {
            router.insert(path, places).map_err(broken)?;
        }
        let ours = rpcs.iter().map(|rpc| (rpc.path.clone(), rpc.permission));
        let others = FOREIGN_RPCS.iter().map(|(path, permission)| ((*path).to_owned(), *permission));
        let grpc = ours.chain(others).collect();
        Ok(Self { rpcs, rows, router, grpc })
    }

    /// The row of a verb and a path; `HEAD` is taken where `GET` is, and answered like it.
    ///
    /// # Errors
    /// `CALLER_UNKNOWN_PATH`, `CALLER_METHOD_NOT_ALLOWED`.
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_>> {
        let unknown =
            || Error::new(ErrorReason::CallerUnknownPath, "there is nothing at this path; `GET /openapi.json` lists what there is");
        let matched = self.router.at(path).map_err(|_| unknown())?;
        let rows = || matched.value.iter().map(|place| &self.rows[*place]);
        let Some(row) = rows().find(|row| row.takes().contains(method)) else {
            // The verb of an RPC that there is not reads as a part of the name before it.
            if matched.params.get("endpoint").is_some_and(|name| name.contains(':')) {
                return Err(unknown());
            }
            let allowed: Vec<_> = rows().flat_map(Row::takes).map(Method::as_str).collect();
            let allowed = allowed.join(", ");
            return Err(Error::new(ErrorReason::CallerMethodNotAllowed, format!("this path takes {allowed}")).allow(allowed));
        };
        let named = |name: &str| {
            let text = matched.params.get(name).unwrap_or_default();
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        Ok(Found { row, endpoint: named("endpoint"), version: named("version") })
    }

    /// What the caller of a gRPC path must be allowed to do; `None` for a path that is not served.
    pub fn permission(&self, path: &str) -> Option<Permission> {
        self.grpc.get(path).copied().filter(|permission| *permission != Permission::Unspecified)
    }

    /// The RPCs of the embedded descriptors.
    pub fn rpcs(&self) -> &[Rpc] {
        &self.rpcs
    }

    /// Every HTTP path.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

fn rpc(pool: &DescriptorPool, descriptor: MethodDescriptor) -> Rpc {
    let options = descriptor.options();
    let option = |name: &str| pool.get_extension_by_name(name).map(|extension| options.get_extension(&extension).into_owned());
    let permission = option("flowgate.v1.permission").and_then(|value| value.as_enum_number()).unwrap_or_default();
    let http = option("google.api.http").and_then(|rule| {
        let rule = rule.as_message()?.clone();
        [("get", Method::GET), ("post", Method::POST), ("put", Method::PUT), ("delete", Method::DELETE), ("patch", Method::PATCH)]
            .into_iter()
            .find(|(verb, _)| rule.has_field_by_name(verb))
            .and_then(|(verb, method)| match rule.get_field_by_name(verb)?.into_owned() {
                Value::String(path) => Some((method, path)),
                _ => None,
            })
    });
    let path = format!("/{}/{}", descriptor.parent_service().full_name(), descriptor.name());
    // What others have defined declares nothing of ours.
    let foreign = FOREIGN_RPCS.iter().find(|(foreign, _)| *foreign == path).map(|(_, permission)| *permission);
    let declared = Permission::try_from(permission).unwrap_or_default();
    Rpc { path, permission: foreign.unwrap_or(declared), http, descriptor }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the table of paths cannot be built").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_declares_a_permission_and_every_row_is_found() {
        let table = Table::new().unwrap();
        assert!(table.rpcs().len() >= 8);
        for rpc in table.rpcs() {
            assert_ne!(rpc.permission, Permission::Unspecified, "{} declares no permission", rpc.path);
            assert!(table.permission(&rpc.path).is_some());
        }
        for row in table.rows() {
            let path = row.path.replace("{endpoint}", "some.name-1").replace("{version}", "7%201");
            let found = table.find(&row.method, &path).unwrap();
            assert_eq!(found.row.path, row.path);
            assert_eq!(found.version, if row.path.contains("{version}") { "7 1" } else { "" });
            assert_eq!(found.endpoint.is_empty(), !row.path.contains("{endpoint}"), "{path}");
        }
    }

    #[test]
    fn verbs_of_one_name_are_told_apart() {
        let table = Table::new().unwrap();
        let native = |path: &str, method: &Method| match table.find(method, path).unwrap().row.door {
            Door::Native(place) => table.rpcs()[place].descriptor.name().to_owned(),
            door => panic!("{door:?}"),
        };
        assert_eq!(native("/v1/endpoints/e:chat", &Method::POST), "Chat");
        assert_eq!(native("/v1/endpoints/e:streamChat", &Method::POST), "StreamChat");
        assert_eq!(native("/v1/endpoints/e:predict", &Method::POST), "Predict");
        assert_eq!(native("/v1/endpoints/e", &Method::GET), "GetEndpoint");
    }

    #[test]
    fn what_answers_get_answers_head() {
        let table = Table::new().unwrap();
        assert_eq!(table.find(&Method::HEAD, "/v1/models").unwrap().row.door, Door::Models);
        assert_eq!(table.find(&Method::HEAD, "/v1/chat/completions").unwrap_err().reason(), ErrorReason::CallerMethodNotAllowed);
        assert_eq!(table.permission("/grpc.health.v1.Health/List"), None, "not served");
    }

    #[test]
    fn no_endpoint_can_have_a_path_of_the_table_and_no_other_is_kept_from_it() {
        use crate::config::lower::path::{DOORS, covers};
        /// Kept for what clients and browsers ask of such a server.
        const KEPT: [&str; 6] = ["/", "/docs", "/redoc", "/favicon.ico", "/api/2.0/gateway/**", "/api/3.0/gateway/**"];
        let table = Table::new().unwrap();
        let paths: Vec<_> = table
            .rows()
            .iter()
            .map(|row| row.path.replace("{endpoint}", "x").replace("{version}", "1"))
            .chain(table.grpc.keys().cloned())
            .collect();
        for path in &paths {
            assert!(DOORS.iter().any(|door| covers(door, path)), "{path} is not among DOORS");
        }
        for door in DOORS {
            assert!(KEPT.contains(door) || paths.iter().any(|path| covers(door, path)), "nothing is served at {door}");
        }
    }

    #[test]
    fn what_has_no_row_is_refused() {
        let table = Table::new().unwrap();
        let reason = |method: Method, path: &str| table.find(&method, path).unwrap_err().reason();
        assert_eq!(reason(Method::GET, "/nowhere"), ErrorReason::CallerUnknownPath);
        assert_eq!(reason(Method::POST, "/v1/endpoints/e:steal"), ErrorReason::CallerUnknownPath);
        assert_eq!(reason(Method::GET, "/v1/chat/completions"), ErrorReason::CallerMethodNotAllowed);
        assert_eq!(table.permission("/flowgate.v1.ChatService/Steal"), None);
    }
}
