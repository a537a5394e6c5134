//! `serve`: tars and image stores as a registry, for one command or until a signal.
//!
//! The server is in [`crate::serve`]; here are the stores that are opened, the command, the signals and the text.

use std::path::Path;
use std::sync::mpsc;

use serde_json::json;
use signal_hook::consts::{SIGUSR1, SIGUSR2};

use super::client_config::{self, ClientProgram};
use super::collecting;
use super::resolve::{self, ServeOptions};
use super::running;
use super::serve_args::ServeArgs;
use super::stores::open_stores;
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::outcome::{Outcome, TextDocument};
use crate::front::signals;
use crate::model::limits;
use crate::serve::{Access, Contents, Password, ServeError, Server, Service, Tls};
use crate::store::Store;
use crate::stream::{AtomicFile, FileError, read_file, read_text_file, threads};

/// Names that are printed; the rest are counted.
const SHOWN: usize = 10;

pub(in crate::front) fn run(context: &Context<'_>, args: &ServeArgs, json: bool) -> Result<Outcome, Failure> {
    let options = resolve::serve(args)?;
    if let Some(path) = options.ready_file.as_ref().filter(|_| options.print_config.is_none()) {
        remove_old(path)?;
    }
    let password = options.password.as_ref().map(|(name, file)| read_password(name, file)).transpose()?;
    let mut stores = Vec::new();
    for source in &options.sources {
        stores.extend(open_stores(context, source, &options.registry)?);
    }
    if let Some(client) = options.print_config {
        return Ok(configuration(client, &options, &stores));
    }
    let collection = options.collection.as_ref();
    let collected = collection.map(|collection| collecting::prepare(context, collection)).transpose()?;
    let contents = Contents::of(stores, &options.naming)?;
    let service = Service::new(contents, collected).protected(password);
    let tls = options.tls.as_ref().map(|(certificate, key)| read_tls(certificate, key)).transpose()?;
    let server = Server::bind(options.listen, tls)?;
    let running = Serving { context, options: &options, server: &server, json };
    let ended = running.run(&service);
    if let Some(path) = &options.ready_file {
        remove_old(path)?;
    }
    ended?;
    if let Some(collection) = collection {
        collecting::write(context, collection, &service)?;
    }
    Ok(Outcome::Printed)
}

/// Reads the password; a line break at its end is not a part of it.
fn read_password(name: &str, file: &Path) -> Result<Password, Failure> {
    let text = read_text_file(file, limits::TOKEN_FILE_BYTES).map_err(Failure::of_input)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::misuse(format!("`{}` is empty, expected a password", file.display()))),
        password => Ok(Password::new(name, password)),
    }
}

/// Reads a certificate and its key.
fn read_tls(certificate: &Path, key: &Path) -> Result<Tls, Failure> {
    let read = |path| read_file(path, limits::CERTIFICATES_BYTES).map_err(Failure::of_input);
    Tls::new(&read(certificate)?, &read(key)?).map_err(|problem| {
        Failure::misuse(format!("`{}` and `{}`: {problem}", certificate.display(), key.display()))
    })
}

/// Returns the configuration of a client, also with mirrors of the registries in the images' names.
fn configuration(client: ClientProgram, options: &ServeOptions, stores: &[Store]) -> Outcome {
    let names = stores.iter().flat_map(Store::roots).flat_map(|root| {
        root.image.names.iter().filter_map(|name| name.reference.as_ref()).chain(&root.image.origin)
    });
    let mirrored = names.map(|name| name.repository.registry().as_str().to_owned()).collect();
    let text = client_config::lines(client, &options.listen.to_string(), &mirrored);
    let json = json!({ "config": text });
    Outcome::Document(TextDocument::new(text, json))
}

/// Removes an earlier run's file, so that a reader does not take it for this run's.
fn remove_old(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::io("remove", path, error).into())
        }
        _ => Ok(()),
    }
}

struct Serving<'a> {
    context: &'a Context<'a>,
    options: &'a ServeOptions,
    server: &'a Server,
    json: bool,
}

impl Serving<'_> {
    /// Answers clients while the command runs, or until a signal.
    fn run(&self, service: &Service) -> Result<(), Failure> {
        self.warn_of_other_machines();
        let (sender, events) = mpsc::channel();
        let signals = sender.clone();
        let taken = signals::take(move |signal| signals.send(running::Event::Signal(signal)).is_ok());
        std::thread::scope(|scope| {
            let done = |access: &Access| self.report(access);
            let served = threads::spawn(scope, move || self.server.run(service, &done));
            let served = served.map_err(|source| ServeError::System { doing: "start the server", source })?;
            let ended = self.announce(service).and_then(|()| match self.options.command.as_slice() {
                [] => {
                    // No command runs, so every event is a signal; these two are for the command only.
                    while let Ok(running::Event::Signal(SIGUSR1 | SIGUSR2)) = events.recv() {}
                    Ok(())
                }
                command => running::run(command, &self.registry(), &sender, &events),
            });
            // From here a signal ends the process as it always does.
            drop(taken);
            self.server.stop();
            threads::join(served);
            ended
        })
    }

    /// Returns the address for clients on this machine.
    fn registry(&self) -> String {
        self.server.local_address().to_string()
    }

    /// Prints the server's address and its images.
    ///
    /// Standard output belongs to the command, if there is one.
    fn announce(&self, service: &Service) -> Result<(), Failure> {
        let registry = self.registry();
        let names = service.contents().names();
        let ui = &self.context.ui;
        for name in names.iter().take(SHOWN) {
            ui.note(&format!(
                "serving {registry}/{}:{} ({})",
                name.repository,
                name.tag,
                name.digest.short()
            ));
        }
        if names.len() > SHOWN {
            ui.note(&format!("… and {} more names", names.len() - SHOWN));
        }
        if service.contents().answers_to_any_name() {
            let several = names.windows(2).any(|pair| pair[0].digest != pair[1].digest);
            let images = if several { "images" } else { "image" };
            ui.note(&format!("{registry} serves the same {images} under any other repository name"));
        }
        if self.options.command.is_empty() {
            let image =
                |name: &crate::serve::ServedName| format!("{registry}/{}:{}", name.repository, name.tag);
            let images: Vec<String> = names.iter().map(image).collect();
            let line = match self.json {
                true => json!({"registry": registry, "refs": images}).to_string(),
                false => registry.clone(),
            };
            ui.print(&format!("{line}\n"))?;
        }
        if let Some(path) = &self.options.ready_file {
            AtomicFile::write_whole(path, format!("{registry}\n").as_bytes(), 0o666)?;
        }
        Ok(())
    }

    fn warn_of_other_machines(&self) {
        let address = self.server.address();
        if !address.ip().is_loopback() {
            let access = match self.options.collection {
                None => "read these images",
                Some(_) => "read and push images",
            };
            let password = match (&self.options.password, &self.options.tls) {
                (None, _) => ", without a password,",
                (Some(_), None) => ", with a password that is sent without encryption,",
                (Some(_), Some(_)) => ", with a password,",
            };
            let what = format!("{access}{password}");
            let line = format!("other machines can {what} at `{address}`");
            let advice = message!("listen on this machine only with ", Flag::LISTEN.with("127.0.0.1:PORT"));
            self.context.ui.warning_with(&line, Some(advice));
        }
    }

    fn report(&self, access: &Access) {
        let ui = &self.context.ui;
        if let Some(damage) = &access.damage {
            ui.warning(damage);
        }
        let problem = access.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        let Access { method, target, status, sent, .. } = access;
        ui.debug(&format!("served {method} {target}: {status}, {sent} bytes{problem}"));
    }
}
