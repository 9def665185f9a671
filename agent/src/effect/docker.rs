//! A container engine for tests: Docker's API on a real socket, with as much
//! behind it as starting, stopping and looking needs.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;

pub(crate) struct Docker {
    containers: Arc<Mutex<HashMap<String, bool>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Docker {
    /// Listens in `folder`, with containers and whether they run. One called
    /// `slow` never answers a request to change it, one called `broken` fails.
    pub(crate) fn start(folder: &Path, containers: &[(&str, bool)]) -> Self {
        let listener = UnixListener::bind(folder.join("docker.sock")).expect("bound");
        let containers = containers.iter().map(|(name, runs)| ((*name).to_owned(), *runs)).collect();
        let docker = Self { containers: Arc::new(Mutex::new(containers)), requests: Arc::default() };
        let (containers, requests) = (Arc::clone(&docker.containers), Arc::clone(&docker.requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (containers, requests) = (Arc::clone(&containers), Arc::clone(&requests));
                let service = service_fn(move |request: Request<Incoming>| {
                    let line = format!("{} {}", request.method(), request.uri().path());
                    requests.lock().expect("whole").push(line.clone());
                    let answer = answer(&containers, &line);
                    async move {
                        let Some((status, body)) = answer else { std::future::pending().await };
                        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
                        let response = Response::builder().status(status).header("content-type", "application/json");
                        Ok::<_, Infallible>(response.body(Full::new(body)).expect("a response"))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        docker
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.containers.lock().expect("whole")[name]
    }

    /// What was asked to be changed.
    pub(crate) fn changes(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("whole");
        requests.iter().filter(|line| line.starts_with("POST")).cloned().collect()
    }
}

fn answer(containers: &Mutex<HashMap<String, bool>>, line: &str) -> Option<(u16, serde_json::Value)> {
    let (method, path) = line.split_once(' ').expect("two words");
    if path.ends_with("/version") {
        return Some((200, json!({"Version": "24.0.7", "ApiVersion": "1.43", "MinAPIVersion": "1.12"})));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if let ["v1.43", "containers", "json"] | ["containers", "json"] = parts[..] {
        let containers = containers.lock().expect("whole");
        let row = |(name, runs): (&String, &bool)| {
            json!({"Id": "0a1b", "Names": [format!("/{name}")], "Image": "portal:3",
                "State": if *runs { "running" } else { "exited" },
                "Ports": [{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                    {"PrivatePort": 443, "Type": "tcp"}],
                "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}}})
        };
        return Some((200, containers.iter().map(row).collect()));
    }
    // As the real engine: without a version it is its newest.
    let (["v1.43", "containers", name, what] | ["containers", name, what]) = parts[..] else {
        return Some((404, json!({"message": "page not found"})));
    };
    let mut containers = containers.lock().expect("whole");
    let Some(runs) = containers.get_mut(name) else {
        return Some((404, json!({"message": format!("No such container: {name}")})));
    };
    let before = *runs;
    match (method, what) {
        ("GET", "json") => {
            let status = if before { "running" } else { "exited" };
            let state = json!({"Status": status, "Running": before, "Paused": false, "Restarting": false});
            return Some((200, json!({"Id": "0a1b", "Name": format!("/{name}"), "RestartCount": 2, "State": state})));
        }
        ("POST", "start" | "stop" | "restart") => {}
        _ => return Some((404, json!({"message": "page not found"}))),
    }
    match name {
        "slow" => return None,
        "broken" => return Some((500, json!({"message": "driver failed"}))),
        _ => {}
    }
    *runs = what != "stop";
    let same = before == *runs && what != "restart";
    Some((if same { 304 } else { 204 }, serde_json::Value::Null))
}
