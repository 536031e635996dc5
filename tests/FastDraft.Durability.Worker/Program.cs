using FastDraft.Durability.Worker;
using FastDraft.Server.Worker;

return await WorkerProgram.RunAsync(args, [new MakeStage(), new CopyStage()]);
