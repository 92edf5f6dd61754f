//! Turns `proto/` into Rust: messages and services, their JSON mapping (enums by short words too), a table of JSON codecs, and the
//! descriptor sets.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor};

const FILES: &[&str] = &[
    "flowgate/v1/chat_service.proto",
    "flowgate/v1/completion_service.proto",
    "flowgate/v1/embedding_service.proto",
    "flowgate/v1/endpoint_service.proto",
    "flowgate/v1/error.proto",
    "flowgate/v1/prediction_service.proto",
    "inference/grpc_service.proto",
];
/// What is served on the admin listener alone: its descriptors are apart, so that no door of the data plane can know of it.
const ADMIN_FILES: &[&str] = &["flowgate/admin/v1/model_service.proto", "flowgate/admin/v1/rollout_service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    // The encoded bytes keep the options of google.api.http and of our permissions; the typed set below drops them.
    let doors = compile(FILES)?.encode_file_descriptor_set();
    fs::write(out.join("descriptor.bin"), &doors)?;
    fs::write(out.join("admin_descriptor.bin"), compile(ADMIN_FILES)?.encode_file_descriptor_set())?;
    let compiler = compile(&[FILES, ADMIN_FILES].concat())?;
    let descriptors = compiler.encode_file_descriptor_set();

    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".flowgate.v1")
        .bytes(".inference")
        .compile_well_known_types(true) // else prost maps them to prost_types, which have no JSON
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(compiler.file_descriptor_set())?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors)?
        .extern_path(".google.protobuf", "::pbjson_types")
        .preserve_proto_field_names()
        .build(&[".flowgate", ".google.rpc"])?;

    let pool = DescriptorPool::decode(descriptors.as_slice())?;
    for names in pool.all_enums().filter(|names| names.package_name().starts_with("flowgate.")) {
        let path = out.join(format!("{}.serde.rs", names.package_name()));
        fs::write(&path, with_short_words(fs::read_to_string(&path)?, &names)?)?;
    }
    fs::write(out.join("json_codecs.rs"), json_codecs(&DescriptorPool::decode(doors.as_slice())?)?)?;
    Ok(())
}

/// Files of `proto/` with all that they import.
fn compile(files: &[&str]) -> Result<protox::Compiler, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    Ok(compiler)
}

/// The JSON mapping, reading an enum's short words as well as its names: `user` is `ROLE_USER`. What it writes stays as it is.
fn with_short_words(mut code: String, names: &EnumDescriptor) -> Result<String, Box<dyn Error>> {
    let zero = names.default_value();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").ok_or_else(|| format!("{} is not named as the others", zero.full_name()))?;
    for value in names.values() {
        let name = value.name();
        let short = name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
        let read = format!("\"{name}\" => Ok(");
        if code.matches(&read).count() != 1 {
            return Err(format!("pbjson reads {name} in another way than this build knows").into());
        }
        code = code.replace(&read, &format!("\"{name}\" | \"{short}\" => Ok("));
    }
    Ok(code)
}

/// One row for each message that an RPC of ours takes or returns, so that a new RPC needs no code to be reached as JSON.
fn json_codecs(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut messages: Vec<MessageDescriptor> = pool
        .services()
        .filter(|service| service.package_name().starts_with("flowgate."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .flat_map(|method| [method.input(), method.output()])
        .collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    messages.dedup();
    let mut rows = String::from("&[\n");
    for message in &messages {
        let module = message.package_name().replace('.', "::");
        writeln!(rows, "    JsonCodec::of::<crate::{module}::{}>(\"{}\"),", message.name(), message.full_name())?;
    }
    rows.push(']');
    Ok(rows)
}
