//! The bare program: says a [`Script`] again over plain tokio sockets. Each message leaves when its sender has
//! received what the device had received when it sent it; the sender half-closes and waits for the end of the stream,
//! as the mesh does. Nothing is parsed, decided, limited or timed.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::script::Script;

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Says one script, as often as it is asked to.
pub(crate) struct Bare {
    commands: Vec<mpsc::UnboundedSender<Heard>>,
    all: mpsc::UnboundedReceiver<()>,
    done: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

/// What a bare device is told.
enum Heard {
    Begin,
    Bytes(Vec<u8>),
}

impl Bare {
    /// Devices that listen, all in the calling runtime.
    pub(crate) async fn start(script: &Script) -> Self {
        Self::start_with(script, |device| drop(tokio::spawn(device))).await
    }

    /// Devices that listen, each in a thread of its own that lives as long as the program.
    pub(crate) async fn start_threads(script: &Script) -> Self {
        Self::start_with(script, |device| {
            std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(device);
            });
        })
        .await
    }

    async fn start_with(script: &Script, spawn: impl Fn(BoxFuture)) -> Self {
        let script = Arc::new(script.clone());
        let mut listeners = Vec::new();
        for _ in 0..script.devices {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            listeners.push(listener);
        }
        let addresses: Arc<[SocketAddr]> =
            listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let (finished, all) = mpsc::unbounded_channel();
        let done = Arc::new(Mutex::new(None));
        let mut commands = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let (command, commanded) = mpsc::unbounded_channel();
            commands.push(command.clone());
            let device = Device {
                number,
                script: Arc::clone(&script),
                addresses: Arc::clone(&addresses),
                done: Arc::clone(&done),
                finished: finished.clone(),
            };
            spawn(Box::pin(async move {
                let listener = TcpListener::from_std(listener).expect("a runtime");
                tokio::spawn(listen(listener, command));
                device.run(commanded).await;
            }));
        }
        Self { commands, all, done }
    }

    /// Says the script once; how long it took until the first device was done. Returns when everything is said.
    pub(crate) async fn play(&mut self) -> Duration {
        let (done, is_done) = oneshot::channel();
        *self.done.lock().expect("not poisoned") = Some(done);
        let start = Instant::now();
        for command in &self.commands {
            command.send(Heard::Begin).expect("devices live as long as the program");
        }
        is_done.await.expect("the first device says when it is done");
        let took = start.elapsed();
        for _ in &self.commands {
            self.all.recv().await;
        }
        took
    }
}

async fn listen(listener: TcpListener, heard: mpsc::UnboundedSender<Heard>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("connections can be had");
        let heard = heard.clone();
        tokio::spawn(async move {
            // Room for a whole message: as few reads as there can be.
            let mut bytes = Vec::with_capacity(16 * 1024);
            stream.read_to_end(&mut bytes).await.expect("whole messages");
            drop(stream);
            let _ = heard.send(Heard::Bytes(bytes));
        });
    }
}

struct Device {
    number: usize,
    script: Arc<Script>,
    addresses: Arc<[SocketAddr]>,
    done: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    finished: mpsc::UnboundedSender<()>,
}

impl Device {
    async fn run(self, mut heard: mpsc::UnboundedReceiver<Heard>) {
        let expected = &self.script.received[self.number];
        loop {
            let (mut got, mut sent) = (vec![false; expected.len()], 0);
            // How many of the recorded messages, in the recorded order, have arrived.
            let (mut in_order, mut arrived, mut begun) = (0, 0, false);
            while !begun || arrived < expected.len() {
                match heard.recv().await {
                    None => return,
                    Some(Heard::Begin) => begun = true,
                    Some(Heard::Bytes(bytes)) => {
                        let place = (0..expected.len())
                            .find(|place| !got[*place] && self.script.steps[expected[*place]].bytes == bytes)
                            .expect("a message of the script");
                        got[place] = true;
                        arrived += 1;
                        in_order += got[in_order..].iter().take_while(|got| **got).count();
                    }
                }
                if begun {
                    sent = self.say(sent, in_order);
                    if self.number == 0
                        && in_order >= self.script.done_after
                        && let Some(done) = self.done.lock().expect("not poisoned").take()
                    {
                        let _ = done.send(());
                    }
                }
            }
            let _ = self.finished.send(());
        }
    }

    /// Sends what depends on no more than `in_order` messages; `sent` and the result count its steps.
    fn say(&self, sent: usize, in_order: usize) -> usize {
        let own = self.script.steps.iter().filter(|step| step.from == self.number);
        let ready = own.skip(sent).take_while(|step| step.after <= in_order);
        ready.fold(sent, |sent, step| {
            let (to, bytes) = (self.addresses[step.to], step.bytes.clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(to).await.expect("a device that listens");
                stream.write_all(&bytes).await.expect("a device that reads");
                stream.shutdown().await.expect("a connection");
                stream.read_to_end(&mut Vec::new()).await.expect("an end of the stream");
            });
            sent + 1
        })
    }
}
