# Echoes lines; a thread for each connection.
require 'socket'

listener = TCPServer.new('127.0.0.1', Integer(ARGV[0]))
loop do
  Thread.new(listener.accept) do |socket|
    while (line = socket.gets)
      socket.write(line)
    end
    socket.close
  end
end
